"""`make compile`: the modules of gateway/compiled.py, compiled into compiled/.

Needs mypy (whose mypyc it is), setuptools and a C compiler; takes about two minutes of one core. With `--translate` it stops
before the C compiler: whatever mypyc does not take, it says by then.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from mypyc.build import mypycify
from setuptools import setup

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from gateway import compiled  # noqa: E402

# Django's plugin would have to read the settings. `make check` has it; here only what is compiled is looked at.
_CONFIG = """
[tool.mypy]
python_version = "3.11"
follow_imports = "silent"
warn_unreachable = true
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--translate", action="store_true", help="stop before the C compiler")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatehouse-compile-") as name:
        work = Path(name)
        (work / "mypy.toml").write_text(_CONFIG)
        os.chdir(ROOT)
        extensions = mypycify(
            [
                *("--config-file", str(work / "mypy.toml"), "--cache-dir", str(work / "cache")),
                *(f"{module.replace('.', '/')}.py" for module in compiled.MODULES),
            ],
            opt_level="2",
            debug_level="0",
            target_dir=str(work / "c"),
        )
        if options.translate:
            return
        os.chdir(work)  # setuptools would take the project's pyproject.toml for its own
        build = ("build_ext", "--build-lib", str(work / "lib"), "--build-temp", str(work / "o"))
        setup(name="gatehouse", ext_modules=extensions, script_args=["--quiet", *build])
        compiled.mark(work / "lib")
        shutil.rmtree(ROOT / compiled.FOLDER, ignore_errors=True)
        shutil.move(work / "lib", ROOT / compiled.FOLDER)


if __name__ == "__main__":
    main()
