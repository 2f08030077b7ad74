"""Pictures of every page of the console, to be looked at by a person: wide and narrow, light and dark.

`python -m tests.gateway.console.pictures FOLDER [PATTERN]`; a pattern (a regular expression) takes only the pages whose names
it is found in. They stand beside the visual reference when the console's looks are changed.
"""

import re
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Final, Literal

# Settings are read when Django is set up, which has to come before anything that imports a model.
from tests.support import environment

environment.prepare()

from playwright.sync_api import Page  # noqa: E402

from tests.gateway import door as doors  # noqa: E402
from tests.gateway.console import world  # noqa: E402
from tests.gateway.console.occasions import OCCASIONS  # noqa: E402
from tests.support import browser as browsers  # noqa: E402
from tests.support.browser import Visit  # noqa: E402
from tests.support.server import Yard  # noqa: E402

_WIDTHS: Final = (1280, 400)
_SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
_HEIGHT: Final = 900


def main(folder: Path, pattern: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Yard(Path(scratch)).opened() as yard,
        browsers.chromium() as chromium,
    ):
        room = Path(scratch) / "server"
        room.mkdir()
        with doors.opened(yard, room) as door:
            world.furnish(door)
            visit = Visit(chromium, door.server.url, reduced_motion="reduce")
            visit.page.goto("/console/sign-in/")
            _take(visit.page, folder, "sign-in", pattern)
            world.signed_in(visit, yard.operator_password)
            world.belongings(visit)
            for shape in world.every_page(visit.page):
                _take(visit.page, folder, shape, pattern)
            for name, lead in OCCASIONS.items():
                lead(visit.page)
                _take(visit.page, folder, name, pattern)
            visit.close()


def _take(page: Page, folder: Path, name: str, pattern: str) -> None:
    if not re.search(pattern, name):
        return
    stem = re.sub(r"[^\w-]+", "-", name).strip("-")
    for width, scheme in product(_WIDTHS, _SCHEMES):
        page.set_viewport_size({"width": width, "height": _HEIGHT})
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=folder / f"{stem}-{width}-{scheme}.png", full_page=True)
    page.set_viewport_size({"width": _WIDTHS[0], "height": _HEIGHT})


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
