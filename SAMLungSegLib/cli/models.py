"""`samlungseg models`: what there is, download, check, merge, export."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from SAMLungSegLib.cli.choices import given_path
from SAMLungSegLib.cli.messages import one_line
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.registry import MODELS, ModelSpec, model_spec, models_folder


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("models", help="list, fetch and verify model weights")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="all models and where their weights are").set_defaults(run=list_models)
    fetch = actions.add_parser("fetch", help="download weights; an interrupted download is resumed")
    fetch.add_argument("names", nargs="+", metavar="MODEL", help="see 'samlungseg models list'")
    fetch.set_defaults(run=fetch_models)
    verify = actions.add_parser("verify", help="compare weights on this machine with their SHA-256")
    verify.add_argument("names", nargs="*", metavar="MODEL", help="all that are here, if none is given")
    verify.set_defaults(run=verify_models)
    merge = actions.add_parser(
        "merge",
        help="put adapters into the weights of their model",
        description="Writes whole weights that do what the model does with the adapters, for --weights and for other "
        "programs. The adapters' card says which model they belong to.",
    )
    merge.add_argument("adapters", type=given_path, metavar="FILE", help="weights of adapters, their card beside them")
    merge.add_argument(
        "-o", "--output", type=given_path, required=True, metavar="FILE", help=".safetensors file to write"
    )
    merge.set_defaults(run=merge_adapters)
    export = actions.add_parser(
        "export",
        help="write lung-compact as ONNX, for other programs",
        description="Writes the encoder and the decoder as ONNX models with their weights. How images are prepared and "
        "what comes out is in the models' metadata.",
    )
    export.add_argument("name", nargs="?", default="lung-compact", metavar="MODEL", help="see 'samlungseg models list'")
    export.add_argument(
        "--weights",
        type=given_path,
        metavar="FILE",
        help="of yours for that model, tuned ones as well; default: its own",
    )
    export.add_argument("-o", "--output", type=given_path, required=True, metavar="DIR", help="folder to write into")
    export.set_defaults(run=export_model)


def list_models(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.models.checkpoints import verify

    for spec in MODELS.values():
        absent = "to be trained" if spec.is_trained_here else "not downloaded"
        state = "bundled" if spec.is_bundled else {"absent": absent}.get(status := verify(spec), status)
        print(f"{spec.name:14} {_size(spec):>8}  {state:15} {spec.title}")
    print(f"\nDownloads are kept in {models_folder()}")
    return 0


def _size(spec: ModelSpec) -> str:
    return f"{spec.size_bytes / 1e6:.0f} MB" if spec.size_bytes else "?"


def fetch_models(arguments: argparse.Namespace) -> int:
    failures = 0
    for name in arguments.names:
        try:
            print(_fetched(model_spec(name)))
        except ModelError as error:
            failures += 1
            print(f"samlungseg: {one_line(str(error))}", file=sys.stderr)
    return 2 if failures else 0


def _fetched(spec: ModelSpec) -> Path:
    from tqdm import tqdm

    from SAMLungSegLib.models.checkpoints import fetch

    with tqdm(desc=spec.name, unit="B", unit_scale=True, unit_divisor=1000, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return fetch(spec, progress=show)


def verify_models(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.models.checkpoints import verify

    specs = [model_spec(name) for name in arguments.names] or list(MODELS.values())
    states = {spec.name: verify(spec) for spec in specs}
    for name, state in states.items():
        if arguments.names or state != "absent":
            print(f"{name:14} {state}")
    wrong = [name for name, state in states.items() if state == "wrong hash" or (arguments.names and state == "absent")]
    return 2 if wrong else 0


def merge_adapters(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.models.adapted import save_merged
    from SAMLungSegLib.models.tuned import read_card

    target = save_merged(arguments.adapters, arguments.output)
    card = read_card(arguments.adapters)
    print(f"Written: {target}. Use it as")
    print(f"  samlungseg segment IMAGE -o DIR --model {card.base} --weights {target}")
    if card.recipe is not None:
        print(f"The adapters' threshold {card.threshold:.2f} and their prompts are not in it: give them yourself.")
    return 0


def export_model(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.models.exported import save_onnx

    for path in save_onnx(arguments.output, arguments.name, weights=arguments.weights):
        print(f"Written: {path}")
    return 0
