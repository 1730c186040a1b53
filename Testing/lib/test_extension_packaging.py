"""What the extension's CMake lists ship: every file, nothing that is not there, and a library that works installed."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE, LIBRARY, MODELS = (REPOSITORY / name for name in ("SAMLungSeg", "SAMLungSegLib", "Resources/Models"))
EFFECT = REPOSITORY / "SegmentEditorSAMLungs"
SHIPPED_KINDS = {".py", ".toml", ".ui", ".png", ".svg", ".json", ".md", ".safetensors"}
INSTALLED = Path("lib/Slicer-5.99/qt-scripted-modules")

SLICER_CONFIG = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_FILE})
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/Empty.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/Empty.cmake)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR @INSTALLED@)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR @INSTALLED@)
function(ctkMacroCompilePythonScript)
  cmake_parse_arguments(MY NO_INSTALL_SUBDIR "TARGET_NAME;DESTINATION_DIR;INSTALL_DIR" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file IN LISTS MY_SCRIPTS MY_RESOURCES)
    configure_file(${CMAKE_CURRENT_SOURCE_DIR}/${file} ${MY_DESTINATION_DIR}/${file} COPYONLY)
  endforeach()
  install(DIRECTORY ${MY_DESTINATION_DIR}/ DESTINATION ${MY_INSTALL_DIR})
endfunction()
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY WITH_GENERIC_TESTS NAME "SCRIPTS;RESOURCES" ${ARGN})
  ctkMacroCompilePythonScript(
    TARGET_NAME ${MY_NAME}
    SCRIPTS "${MY_SCRIPTS}"
    RESOURCES "${MY_RESOURCES}"
    DESTINATION_DIR ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}
    INSTALL_DIR ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}
    NO_INSTALL_SUBDIR
    )
endfunction()
function(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" SCRIPT SLICER_ARGS ${ARGN})
  message(STATUS "python unittest ${CMAKE_CURRENT_SOURCE_DIR}/${MY_SCRIPT}")
endfunction()
""".replace("@INSTALLED@", INSTALLED.as_posix())

USE_INSTALLED = """
import sys
from pathlib import Path
folder = Path(sys.argv[1]).resolve()
sys.path[:] = [str(folder), *(path for path in sys.path if Path(path).resolve() != Path(sys.argv[2]))]
import SAMLungSegLib
assert Path(SAMLungSegLib.__file__).is_relative_to(folder), SAMLungSegLib.__file__
from SAMLungSegLib.models.registry import MODELS, bundled_file
assert bundled_file("lung-compact.safetensors").is_relative_to(folder)
assert MODELS["lung-compact"].sha256
from SAMLungSegLib.phantom import chest_ct
phantom = chest_ct(size_kji=(16, 48, 64), spacing_mm=(20, 8, 6))
volume = SAMLungSegLib.Volume(phantom.hu_kji, phantom.ijk_to_ras)
labels = SAMLungSegLib.segment_volume(volume, SAMLungSegLib.load_model("lung-compact")).labelmap_kji
print(sorted(set(labels.ravel().tolist())))
"""

USE_INSTALLED_MODULE = """
import sys, types
from pathlib import Path
import bench
bench.start()
from bench.window import ModuleWindow
import SAMLungSeg
parent = types.SimpleNamespace(path=SAMLungSeg.__file__)
SAMLungSeg.SAMLungSeg(parent)
assert not parent.icon.isNull()
ModuleWindow(SAMLungSeg.SAMLungSegWidget, SAMLungSeg.__file__)
files = [module.__file__ for name, module in sys.modules.items() if name.startswith("SAMLungSeg")]
print([file for file in files if not Path(file).is_relative_to(sys.argv[1])])
"""


def cmake_list(folder: Path, name: str) -> list[str]:
    """Entries of a ``set(name ...)`` in a folder's CMakeLists.txt, with the variables of one value put in."""
    text = re.sub(r"#.*", "", (folder / "CMakeLists.txt").read_text(encoding="utf-8"))
    lists = {key: body.split() for key, body in re.findall(r"\bset\(\s*(\w+)\s+([^)\"]*)\)", text)}
    for key, values in lists.items():
        if len(values) == 1:
            lists = {k: [v.replace(f"${{{key}}}", values[0]) for v in vs] for k, vs in lists.items()}
    return lists[name]


def shipped() -> list[tuple[Path, Path]]:
    """Each listed file: where it lies here, and where in the folder of installed modules."""
    module = cmake_list(MODULE, "MODULE_PYTHON_SCRIPTS") + cmake_list(MODULE, "MODULE_PYTHON_RESOURCES")
    effect = cmake_list(EFFECT, "MODULE_PYTHON_SCRIPTS") + cmake_list(EFFECT, "MODULE_PYTHON_RESOURCES")
    library = cmake_list(LIBRARY, "LIBRARY_PYTHON_SCRIPTS") + cmake_list(LIBRARY, "LIBRARY_RESOURCES")
    models = cmake_list(LIBRARY, "MODEL_FILES")
    return (
        [(MODULE / name, Path(name)) for name in module]
        + [(EFFECT / name, Path(name)) for name in effect]
        + [(LIBRARY / name, Path(LIBRARY.name, name)) for name in library]
        + [(MODELS / name, Path("Resources/Models", name)) for name in models]
    )


def names(paths: list[Path]) -> list[str]:
    return sorted(path.relative_to(REPOSITORY).as_posix() for path in paths)


def test_every_file_of_the_modules_the_library_and_the_bundled_model_ships() -> None:
    folders = (MODULE, EFFECT, LIBRARY, MODELS)
    here = [path for folder in folders for path in folder.rglob("*") if path.suffix in SHIPPED_KINDS]
    listed = {source for source, _target in shipped()}
    assert names([path for path in here if path not in listed]) == []


def test_every_listed_file_is_there_and_listed_once() -> None:
    sources = [source for source, _target in shipped()]
    assert names([source for source in sources if not source.is_file()]) == []
    assert len(sources) == len(set(sources))


def test_the_lists_are_read_as_cmake_reads_them(tmp_path: Path) -> None:
    lines = ["set(NAME Lung)", 'set(URL "https://host/(x)")', "# set(SCRIPTS old.py)"]
    lines += ["set(SCRIPTS", "  ${NAME}.py # why", "  a/b.py", "  )"]
    (tmp_path / "CMakeLists.txt").write_text("\n".join(lines), encoding="utf-8")
    assert cmake_list(tmp_path, "SCRIPTS") == ["Lung.py", "a/b.py"]


def test_slicer_finds_exactly_one_script_in_each_module_folder_and_both_in_the_installed_one() -> None:
    assert [path.name for path in MODULE.glob("*.py")] == ["SAMLungSeg.py"]
    assert [path.name for path in EFFECT.glob("*.py")] == ["SegmentEditorSAMLungs.py"]
    installed = [str(target) for _source, target in shipped() if target.parent == Path() and target.suffix == ".py"]
    assert installed == ["SAMLungSeg.py", "SegmentEditorSAMLungs.py"]
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    assert all(f"add_subdirectory({folder.name})" in text for folder in (MODULE, EFFECT, LIBRARY))


def test_the_extension_says_what_the_index_asks_for() -> None:
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    values = dict(re.findall(r"set\(EXTENSION_(\w+) \"([^\"]*)\"\)", text))
    assert values.keys() == {"HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"}
    assert values["DEPENDS"] == "PyTorch"
    assert not any(";" in value for value in values.values())
    for address in [values["ICONURL"], *values["SCREENSHOTURLS"].split()]:
        assert (REPOSITORY / address.partition("/main/")[2]).is_file(), address
    for name in ("README.md", "LICENSE.txt"):
        assert (REPOSITORY / name).is_file()


@pytest.fixture(scope="module")
def install_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The listed files and no other, laid out as installed."""
    folder = tmp_path_factory.mktemp("installed")
    for source, target in shipped():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / target)
    return folder


@pytest.mark.slow
def test_the_installed_library_finds_its_weights_and_segments(install_tree: Path) -> None:
    command = [sys.executable, "-c", USE_INSTALLED, str(install_tree), str(REPOSITORY)]
    done = subprocess.run(command, cwd=install_tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[0, 1, 2]"


@pytest.mark.slow
def test_the_installed_module_opens_with_its_own_files_only(install_tree: Path) -> None:
    for package in ("slicer-core", "PySide6-Essentials"):
        if not any(importlib.metadata.distributions(name=package)):
            pytest.skip(f"{package} is not installed")
    path = os.pathsep.join([str(install_tree), str(REPOSITORY / "Testing")])
    environment = os.environ | {"PYTHONPATH": path, "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-c", USE_INSTALLED_MODULE, str(install_tree)]
    done = subprocess.run(command, cwd=install_tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[]"


USE_INSTALLED_EFFECT = """
import sys, types
from pathlib import Path
import bench
bench.start()
from bench import segmenteditor
segmenteditor.install()
import slicer
before = set(sys.modules)
import SegmentEditorSAMLungs
heavy = {"torch", "SimpleITK", "pandas", "scipy", "skimage", "onnxruntime"}
SegmentEditorSAMLungs.SegmentEditorSAMLungs(types.SimpleNamespace(path=SegmentEditorSAMLungs.__file__))
slicer.app.finishStartup()
(effect,) = segmenteditor.qSlicerSegmentEditorEffectFactory.instance().registeredEffects()
assert not effect.self().icon().isNull()
print(sorted(heavy & (set(sys.modules) - before)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["installed", "source"])
def test_the_effect_is_registered_without_anything_heavy_installed_and_from_source(
    install_tree: Path, origin: str
) -> None:
    for package in ("slicer-core", "PySide6-Essentials"):
        if not any(importlib.metadata.distributions(name=package)):
            pytest.skip(f"{package} is not installed")
    folder = install_tree if origin == "installed" else EFFECT
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY / "Testing")])}
    command = [sys.executable, "-c", USE_INSTALLED_EFFECT]
    environment |= {"QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "[]"


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("cc")), reason="CMake or a C compiler is not installed")
def test_cmake_installs_the_listed_files_and_registers_the_self_test(tmp_path: Path) -> None:
    (tmp_path / "SlicerConfig.cmake").write_text(SLICER_CONFIG, encoding="utf-8")
    (tmp_path / "Empty.cmake").touch()
    configure = ["cmake", "-S", REPOSITORY, "-B", tmp_path / "build", f"-DSlicer_DIR={tmp_path}", "-DBUILD_TESTING=ON"]
    log = subprocess.run(configure, capture_output=True, text=True, check=True).stdout
    install = ["cmake", "--install", tmp_path / "build", "--prefix", tmp_path / "installed"]
    subprocess.run(install, capture_output=True, check=True)
    folder = tmp_path / "installed" / INSTALLED
    installed = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert installed == {target.as_posix() for _source, target in shipped()}
    built = tmp_path / "build" / INSTALLED
    assert all((built / name).is_file() for name in installed)
    assert f"python unittest {MODULE / 'SAMLungSeg.py'}" in log
