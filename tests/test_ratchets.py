"""The rules of the house that a machine can check, and for each a small offence that it must catch.

A ratchet is a function from a project's folder to the list of its offences; the list must be empty.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The rooms of each floor, from the ground up; "errors config" are two modules of one room.
FLOORS = (
    ("errors config",),
    ("nn", "text", "data"),
    ("models",),
    ("generation", "weights"),
    ("objectives",),
    ("training", "evaluation"),
    ("runs",),
    ("recipes", "verify", "explain", "lab", "benchmarks"),
    ("api", "serve", "ledger"),
    ("cli doctor __init__ __main__",),
)
ROOMS = {name: (floor, room) for floor, rooms in enumerate(FLOORS) for room in rooms for name in room.split()}
# Which models are made of which others; every other model stands alone.
COMPOSITES = {"clip": {"vit"}, "text_to_image": {"vqgan", "gpt"}}
# What a model may use of the room's own module, beside nothing that leads to the other models.
SHARED = {"require_sizes"}

LONGEST_FILE, LONGEST_FUNCTION, MOST_ARGUMENTS = 400, 60, 12


def sources(root: Path, *folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root), ast.parse(path.read_text(encoding="utf-8"))


def imported(root: Path, path: Path, tree: ast.Module) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and dotted path, below `descent`, of everything of the project that a module imports.

    Imports inside functions and under TYPE_CHECKING count, and so does a string that is the full name
    of a module, for that is how modules are imported late.
    """
    package = path.parent.parts
    for node in ast.walk(tree):
        found: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            found = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            source = (*start, *(node.module or "").split(".")) if node.module else start
            found = [(*source, alias.name) for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = tuple(node.value.split("."))
            found = [name] if len(name) > 1 and _is_module(root, name) else []
        for name in found:
            if name[0] == "descent":
                below = name[1:] if _is_module(root, name[:2]) else ()
                yield getattr(node, "lineno", 0), below or ("__init__",)


def _is_module(root: Path, name: tuple[str, ...]) -> bool:
    if name[0] != "descent" or not all(part.isidentifier() for part in name):
        return False
    path = root.joinpath(*name)
    return path.is_dir() or path.with_suffix(".py").is_file()


def import_direction(root: Path) -> list[str]:
    """A module imports from lower floors and from its own room."""
    offences = []
    for path, tree in sources(root, "descent"):
        name = path.with_suffix("").parts[1]
        if name not in ROOMS:
            offences.append(f"{path}: give {name!r} a floor")
            continue
        floor, room = ROOMS[name]
        for line, target in imported(root, path, tree):
            there, target_room = ROOMS.get(target[0], (len(FLOORS), target[0]))
            if target_room != room and there >= floor:
                offences.append(f"{path}:{line}: {name} (floor {floor}) imports {target[0]} (floor {there})")
    return offences


def models_stand_alone(root: Path) -> list[str]:
    """A model imports no other model but those it is declared to be made of."""
    offences = []
    for path, tree in sources(root, "descent/models"):
        if path.stem == "__init__":
            continue
        for line, target in imported(root, path, tree):
            allowed = {path.stem, *COMPOSITES.get(path.stem, ()), *SHARED}
            if target[0] == "models" and (len(target) == 1 or target[1] not in allowed):
                offences.append(f"{path}:{line}: {path.stem} imports {'.'.join(target)}")
    return offences


def file_sizes(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}: {lines} lines"
        for folder in ("descent", "tests", "benchmarks", "web")
        for suffix in ("*.py", "*.ts", "*.svelte")
        for path in sorted((root / folder).rglob(suffix))
        if "node_modules" not in path.parts
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    ]


def function_sizes(root: Path) -> list[str]:
    return [
        f"{path}:{node.lineno}: {node.name} has {lines} lines"
        for path, tree in sources(root, "descent", "tests", "benchmarks")
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]


def constructor_arguments(root: Path) -> list[str]:
    """Arguments of `__init__`, self not counted, and the fields a dataclass makes its arguments of."""
    offences = []
    for path, tree in sources(root, "descent", "benchmarks"):
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            count = 0
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                    given = part.args
                    count = len(given.posonlyargs + given.args + given.kwonlyargs) - 1
            if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
                fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
                count = sum("ClassVar" not in ast.unparse(field.annotation) for field in fields)
            if count > MOST_ARGUMENTS:
                offences.append(f"{path}:{node.lineno}: {node.name} takes {count} arguments")
    return offences


def shallow_modules(root: Path) -> list[str]:
    """At most one level over `nn.Module`: parts are wrapped, never overridden."""
    classes = [
        (path, node, {ast.unparse(base).rpartition(".")[2] for base in node.bases})
        for path, tree in sources(root, "descent")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    modules = {node.name for _, node, bases in classes if "Module" in bases}
    return [
        f"{path}:{node.lineno}: {node.name} derives from {' '.join(sorted(bases & modules))}"
        for path, node, bases in classes
        if bases & modules
    ]


UNPICKLERS = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("yaml", "ruamel", "jsonpickle", "code", "codeop", "runpy"),
}
CALLS = re.compile(
    r"(eval|exec|compile|__import__)"
    r"|torch\.(load|save|jit\.load|hub\.load|package\..*|export\.load|distributed\.checkpoint\..*)"
    r"|(os\.(system|popen)|.*\.read_pickle)"
)


def nothing_unpickled(root: Path) -> list[str]:
    """No pickle, no YAML, no evaluated text, no model code taken from an artifact."""
    offences = []
    for path, tree in sources(root, "descent"):
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names if a.name.split(".")[0] in UNPICKLERS]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                full = [f"{node.module}.{a.name}" for a in node.names]
                names = [n for n in full if n.split(".")[0] in UNPICKLERS or CALLS.fullmatch(n)]
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                names = [called] if CALLS.fullmatch(called) else []
                names += [
                    f"{k.arg}="
                    for k in node.keywords
                    if k.arg in ("allow_pickle", "trust_remote_code", "shell")
                    and not (isinstance(k.value, ast.Constant) and k.value.value is False)
                ]
            offences += [f"{path}:{getattr(node, 'lineno', 0)}: {name}" for name in names]
    return offences


WRITTEN = ("*.py", "*.md", "*.toml", "*.json", "*.yaml", "*.yml", "*.ts", "*.svelte", "run", "*.sh")
MADE = {"runs", "build", "dist"}  # by the tools, at the top of the project
# No machine's folders, no word about the work instead of the project, nothing left undone.
PRIVATE = re.compile(
    r"(?<![\w.~}])/(?:home|root|opt|work|mnt|Users|private|workspace)/"
    r"|\b(?:TO[D]O|FIX[M]E|XX[X]|Not[I]mplementedError|not[ ]implemented)\b"
    r"|\b[Ii]ssue ?#?[0-9]+\b",
)


def nothing_private(root: Path) -> list[str]:
    offences = []
    for pattern in WRITTEN:
        for path in sorted(root.rglob(pattern)):
            inside = path.relative_to(root)
            hidden = [part for part in inside.parts[:-1] if part.startswith(".") and part != ".ci"]
            if not path.is_file() or hidden or inside.parts[0] in MADE or "node_modules" in inside.parts:
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                offences += [f"{inside}:{number}: {word[0]!r}" for word in PRIVATE.finditer(line)]
    return offences


def nothing_ignored(root: Path) -> list[str]:
    """No source is hidden from git, which would leave it out of every clone and out of the wheel."""
    if not (root / ".git").exists():
        return []
    paths = [str(path) for path, _ in sources(root, "descent", "tests", "benchmarks")]
    command = ["git", "-C", str(root), "check-ignore", "--no-index", "--verbose", "--stdin"]
    found = subprocess.run(command, input="\n".join(paths), capture_output=True, text=True).stdout
    return [line.replace("\t", " hides ") for line in found.splitlines()]


RATCHETS: list[Callable[[Path], list[str]]] = [
    import_direction,
    models_stand_alone,
    file_sizes,
    function_sizes,
    constructor_arguments,
    shallow_modules,
    nothing_unpickled,
    nothing_private,
    nothing_ignored,
]


@pytest.mark.parametrize("ratchet", RATCHETS, ids=lambda ratchet: ratchet.__name__)
def test_the_project_keeps(ratchet: Callable[[Path], list[str]]):
    offences = ratchet(ROOT)
    assert not offences, "\n" + "\n".join(offences)


OFFENCES = [
    (import_direction, "descent/nn/part.py", "from descent.models.gpt import GPT"),
    (import_direction, "descent/nn/part.py", "def late():\n    import descent.models.gpt"),
    (import_direction, "descent/nn/part.py", "if TYPE_CHECKING:\n    from descent import models"),
    (import_direction, "descent/nn/part.py", "from ..models import gpt"),
    (import_direction, "descent/nn/part.py", "from .. import models"),
    (import_direction, "descent/nn/part.py", "import_module('descent.models.gpt')"),
    (import_direction, "descent/nn/part.py", "from descent import __version__"),
    (import_direction, "descent/data/part.py", "from descent.text import Tokenizer"),
    (import_direction, "descent/errors.py", "import descent.nn"),
    (import_direction, "descent/models/part.py", "import descent.explain"),
    (import_direction, "descent/attic/part.py", ""),
    (models_stand_alone, "descent/models/bert.py", "from descent.models.gpt import GPT"),
    (models_stand_alone, "descent/models/bert.py", "from . import gpt"),
    (models_stand_alone, "descent/models/bert.py", "from descent.models import build"),
    (models_stand_alone, "descent/models/clip.py", "def late():\n    from descent.models import gpt"),
    (file_sizes, "descent/nn/part.py", "x = 0\n" * 401),
    (file_sizes, "tests/test_part.py", "x = 0\n" * 401),
    (function_sizes, "descent/nn/part.py", "class A:\n    def f(self):\n" + "        x = 0\n" * 60),
    (function_sizes, "tests/test_part.py", "async def f():\n" + "    x = 0\n" * 60),
    (
        constructor_arguments,
        "descent/nn/part.py",
        "class A:\n    def __init__(self, a, b, c, d, e, f, /, g, h, i, *, j, k, l, m): ...",
    ),
    (
        constructor_arguments,
        "descent/nn/part.py",
        "@dataclass(frozen=True)\nclass A:\n" + "".join(f"    f{n}: int\n" for n in range(13)),
    ),
    (
        shallow_modules,
        "descent/nn/part.py",
        "class A(nn.Module): ...\nclass B(A): ...",
    ),
    (nothing_unpickled, "descent/nn/part.py", "def f():\n    import pickle"),
    (nothing_unpickled, "descent/nn/part.py", "from yaml import safe_load"),
    (nothing_unpickled, "descent/nn/part.py", "torch.load(path, weights_only=True)"),
    (nothing_unpickled, "descent/nn/part.py", "from torch import load"),
    (nothing_unpickled, "descent/nn/part.py", "eval('1')"),
    (nothing_unpickled, "descent/nn/part.py", "exec('1')"),
    (nothing_unpickled, "descent/nn/part.py", "np.load(path, allow_pickle=True)"),
    (nothing_unpickled, "descent/nn/part.py", "AutoModel.from_pretrained(x, trust_remote_code=trust)"),
    (nothing_private, "docs/page.md", "look under /" + "home/someone/descent"),
    (nothing_private, "descent/runs/part.py", "# TO" + "DO: later"),
    (nothing_private, ".ci/run", "cd /" + "root/descent"),
]


@pytest.mark.parametrize(
    ("ratchet", "name", "text"), OFFENCES, ids=[f"{r.__name__}-{n}" for n, (r, _, _) in enumerate(OFFENCES)]
)
def test_a_ratchet_bites(tmp_path: Path, ratchet: Callable[[Path], list[str]], name: str, text: str):
    for stands in ("models/gpt.py", "models/__init__.py", "explain/__init__.py", "text/__init__.py"):
        (tmp_path / "descent" / stands).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "descent" / stands).write_text("")
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    assert ratchet(tmp_path) == []
    path.write_text(text)
    assert len(ratchet(tmp_path)) == 1, ratchet(tmp_path)


def test_a_source_hidden_from_git_is_caught(tmp_path: Path):
    (tmp_path / "descent/runs").mkdir(parents=True)
    (tmp_path / "descent/runs/run.py").write_text("")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("/runs/\n")
    assert nothing_ignored(tmp_path) == []
    (tmp_path / ".gitignore").write_text("runs/\n")
    assert nothing_ignored(tmp_path) == [".gitignore:1:runs/ hides descent/runs/run.py"]


def test_what_is_allowed_passes_every_ratchet(tmp_path: Path):
    """The other side of each offence: the ratchets refuse no more than they should."""
    allowed = {
        "descent/__init__.py": "import_module('descent.api')",
        "descent/cli.py": "from descent import __version__\nfrom descent.api import train",
        "descent/api.py": "from descent.runs import Run",
        "descent/errors.py": "class UserError(Exception): ...",
        "descent/runs/__init__.py": "from .folder import Folder\nfrom descent.models.gpt import GPT",
        "descent/runs/folder.py": "import os\nfrom ..errors import UserError",
        "descent/models/gpt.py": "from descent.nn.norm import RMSNorm\n\nclass GPT(nn.Module): ...",
        "descent/models/vit.py": "'see descent.models.gpt for the decoder'",
        "descent/models/clip.py": "from descent.models.vit import ViT",
        "descent/nn/norm.py": "model.eval()\nre.compile('a')\nnp.load(path, allow_pickle=False)",
        "docs/page.md": "files of yours: ~/books, ./home/books, https://example.org/root/books",
    }
    for name, text in allowed.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert [offence for ratchet in RATCHETS for offence in ratchet(tmp_path)] == []


HEAVY = ("torch", "sklearn", "matplotlib", "transformers", "tokenizers", "scipy", "PIL")


@pytest.mark.parametrize("module", ["descent", "descent.cli"])
def test_importing_the_command_line_imports_nothing_heavy(module: str):
    program = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (ended.stdout.strip(), ended.stderr) == ("[]", "")
