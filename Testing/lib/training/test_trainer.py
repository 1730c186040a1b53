"""The one loop of all trainings, on a network of a single weight whose numbers are known."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.training.trainer import Trainer, TrainerSettings, TrainingTask


class OneWeight(TrainingTask[float]):
    """The gradient of the weight is the number in the batch, so that plain steps of rate 1 subtract it."""

    def __init__(self, batches=(1.0, 1.0), scores=(), momentum=0.0, name="a"):
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.network.weight)
        self.numbers, self.scores, self.momentum, self.name = batches, scores, momentum, name
        self.seen, self.rows = [], []

    @property
    def fingerprint(self):
        return self.name

    def optimizer(self, stage):
        return torch.optim.SGD(self.network.parameters(), lr=1.0, momentum=self.momentum)

    def batches(self, epoch):
        return [number * (epoch + 1) for number in self.numbers]

    def predict(self, batch):
        return self.network(torch.tensor([[batch]]))

    def loss(self, predictions, batch):
        return predictions.mean()

    def validate(self):
        self.seen.append(self.value)
        return {"dice": self.scores[len(self.seen) - 1] if self.scores else self.value}

    def score(self, row):
        return row["dice"]

    def record(self, row):
        self.rows.append(row)

    @property
    def value(self):
        return self.network.weight.item()


def train(task, folder, **settings):
    return Trainer(task, TrainerSettings(**{"epochs": 2, "keep": "last", **settings}), folder / "checkpoint.pt").run()


def stop_after(monkeypatch, epochs):
    original = Trainer.save

    def save_and_stop(self):
        original(self)
        if self.epochs_done == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", save_and_stop)


def test_an_epoch_is_all_its_batches_and_its_row_is_their_mean_loss_and_the_validation(tmp_path):
    task = OneWeight(batches=(1.0, 3.0))
    trained = train(task, tmp_path)
    # Losses are weight * number: 0 and -1 * 3 in the first epoch, then -4 * 2 and -6 * 6.
    assert trained.history == [{"epoch": 0, "loss": -1.5, "dice": -4}, {"epoch": 1, "loss": -22, "dice": -12}]
    assert task.rows == trained.history
    assert float(trained.state["weight"]) == -12 and trained.epoch == 1


def test_batches_count_by_their_weight_in_the_mean_loss(tmp_path):
    task = OneWeight(batches=(1.0, 3.0))
    task.weight = lambda batch: 1 + 2 * (batch == 3)
    assert train(task, tmp_path, epochs=1).history[0]["loss"] == pytest.approx((0 * 1 + -3 * 3) / 4)


def test_the_average_follows_fast_at_first_then_keeps_its_share(tmp_path):
    task = OneWeight(batches=(1.0, 1.0))
    trained = train(task, tmp_path, epochs=1, ema_decay=0.2)
    first = -1 * (1 - 2 / 11)  # step 1 keeps (1 + 1) / (10 + 1), less than 0.2
    second = 0.2 * first - 2 * 0.8  # step 2 would keep 3 / 12, more than 0.2
    assert float(trained.state["weight"]) == pytest.approx(second)
    assert task.seen == [pytest.approx(second)], "the average is validated"
    assert task.value == -2, "the weights themselves go on"


def test_gradients_are_cut_to_their_longest(tmp_path):
    task = OneWeight(batches=(5.0, -0.25))
    assert float(train(task, tmp_path, epochs=1, clip_norm=1.0).state["weight"]) == pytest.approx(-1 + 0.25)


def test_the_learning_rate_is_a_factor_of_each_groups_own(tmp_path):
    task = OneWeight(batches=(1.0, 1.0))
    task.rate = lambda epoch, steps: 0.5 if steps == 0 else 0.1 + epoch
    assert float(train(task, tmp_path).state["weight"]) == pytest.approx(-(0.5 + 0.1 + 2 * 1.1 + 2 * 1.1))


def test_patience_ends_the_training_and_the_best_epoch_is_kept(tmp_path):
    task = OneWeight(batches=(1.0,), scores=[0.5, 0.7, 0.7, 0.6, 0.9])
    trained = train(task, tmp_path, epochs=9, keep="best", patience=2)
    assert (len(trained.history), trained.epoch) == (4, 1), "two epochs without a better one; equals are not better"
    assert float(trained.state["weight"]) == -(1 + 2)
    assert task.value == -(1 + 2 + 3 + 4)


def test_without_patience_all_epochs_are_trained_and_the_last_one_can_be_kept(tmp_path):
    scores = [0.9, 0.1, 0.1, 0.1]
    trained = train(OneWeight(batches=(1.0,), scores=scores), tmp_path, epochs=4)
    assert (len(trained.history), trained.epoch, float(trained.state["weight"])) == (4, 3, -10)
    assert train(OneWeight(batches=(1.0,), scores=scores), tmp_path / "best", epochs=4, keep="best").epoch == 0


def test_a_second_stage_starts_from_the_average_with_a_new_optimiser(tmp_path):
    task = OneWeight(batches=(1.0, 1.0), momentum=0.9)
    stages = []
    make = task.optimizer
    task.optimizer = lambda stage: stages.append(stage) or make(stage)
    task.stage = lambda epoch: epoch
    trained = train(task, tmp_path, ema_decay=0.0)  # the average is the weights
    # Epoch 1: -1, then momentum 0.9 + 1. Epoch 2 without that momentum: -2, then 0.9 * 2 + 2.
    assert stages == [0, 1] and float(trained.state["weight"]) == pytest.approx(-1 - 1.9 - 2 - 3.8)

    frozen = train(OneWeightFromAverage(batches=(1.0,)), tmp_path / "average", ema_decay=1.0)
    keep = 2 / 11
    assert frozen.history[1]["loss"] == pytest.approx(-(1 - keep) * 2), "not -1 * 2, from the weights"


class OneWeightFromAverage(OneWeight):
    """From the second epoch on in its second stage."""

    def stage(self, epoch):
        return min(epoch, 1)


# ---- going on


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.9}, {"keep": "best", "patience": 3}], ids=str)
def test_a_training_that_was_stopped_goes_on_with_the_same_numbers(tmp_path, monkeypatch, settings):
    def task():
        return OneWeight(batches=(1.0, -3.0, 0.5), momentum=0.9)

    whole = train(task(), tmp_path / "whole", epochs=4, **settings)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(task(), tmp_path / "stopped", epochs=4, **settings)
    rest = task()
    resumed = train(rest, tmp_path / "stopped", epochs=4, **settings)
    assert [row["epoch"] for row in rest.rows] == [2, 3]
    assert resumed.history == whole.history and resumed.epoch == whole.epoch
    assert torch.equal(resumed.state["weight"], whole.state["weight"])


def test_a_training_that_is_done_only_gives_its_result_again(tmp_path):
    first = train(OneWeight(), tmp_path, keep="best")
    again = OneWeight()
    second = train(again, tmp_path, keep="best")
    assert again.rows == [] and second.history == first.history
    assert torch.equal(second.state["weight"], first.state["weight"])


def test_one_that_was_stopped_in_its_second_stage_goes_on_from_its_weights(tmp_path, monkeypatch):
    whole = train(OneWeightFromAverage(batches=(1.0,)), tmp_path / "whole", epochs=3, ema_decay=0.5)
    task = OneWeightFromAverage(batches=(1.0,))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train(task, tmp_path / "stopped", epochs=3, ema_decay=0.5)
    resumed = train(OneWeightFromAverage(batches=(1.0,)), tmp_path / "stopped", epochs=3, ema_decay=0.5)
    assert resumed.history == whole.history and torch.equal(resumed.state["weight"], whole.state["weight"])


@pytest.mark.parametrize("damage", ["cut", "rubbish", "another network", "no average", "a list"])
def test_a_damaged_checkpoint_is_set_aside_and_the_training_starts_anew(tmp_path, damage, caplog):
    whole = train(OneWeight(momentum=0.9), tmp_path, ema_decay=0.9)
    path = tmp_path / "checkpoint.pt"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "rubbish":
        path.write_bytes(b"rubbish" * 100)
    elif damage == "a list":
        torch.save([1, 2], path)
    elif damage == "no average":
        torch.save({**torch.load(path, weights_only=True), "averaged": None}, path)
    else:
        saved = torch.load(path, weights_only=True)
        torch.save({**saved, "net": {"weight": torch.zeros(3, 3)}}, path)
    with caplog.at_level(logging.WARNING):
        task = OneWeight(momentum=0.9)
        again = train(task, tmp_path, ema_decay=0.9)
    assert "checkpoint.pt is damaged" in caplog.text and "starts anew" in caplog.text
    assert len(task.rows) == 2 and again.history == whole.history
    assert torch.equal(again.state["weight"], whole.state["weight"])
    assert (tmp_path / "checkpoint.pt.earlier").is_file()


def test_a_checkpoint_of_another_training_is_set_aside(tmp_path, caplog):
    train(OneWeight(name="a"), tmp_path)
    content = (tmp_path / "checkpoint.pt").read_bytes()
    with caplog.at_level(logging.WARNING):
        task = OneWeight(name="b")
        train(task, tmp_path)
    assert "is of another training" in caplog.text and len(task.rows) == 2
    assert (tmp_path / "checkpoint.pt.earlier").read_bytes() == content


def test_an_epoch_without_a_batch_is_refused_in_words(tmp_path):
    with pytest.raises(SettingsError, match="Epoch 1 has no batch; give smaller batches"):
        train(OneWeight(batches=()), tmp_path)
