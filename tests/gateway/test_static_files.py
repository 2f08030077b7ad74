"""Style sheets and scripts are there when a server starts, built by whoever comes first."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.management import CommandError

from gateway import static_files


@pytest.fixture
def built(settings, tmp_path) -> Path:
    sources = tmp_path / "static" / "console"
    sources.mkdir(parents=True)
    (sources / "a.css").write_text("a { color: red }\n" * 200)
    settings.STATICFILES_DIRS = [tmp_path / "static"]
    settings.STATIC_ROOT = tmp_path / "built"
    root: Path = tmp_path / "built"
    return root


def hashed(built: Path) -> list[str]:
    return sorted(path.name for path in (built / "console").glob("a.*.css"))


def test_they_are_built_when_they_are_missing_and_when_the_sources_changed(built, tmp_path):
    static_files.ensure_built()
    [first] = hashed(built)
    before = (built / "console" / first).stat()
    static_files.ensure_built()
    assert (built / "console" / first).stat().st_mtime_ns == before.st_mtime_ns, "left alone"
    (tmp_path / "static" / "console" / "a.css").write_text("a { color: blue }\n")
    static_files.ensure_built()
    [second] = hashed(built)
    assert second != first


def test_many_servers_at_once_build_them_once(built):
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: static_files.ensure_built(), range(4)))
    assert len(hashed(built)) == 1
    assert (built / "console" / f"{hashed(built)[0]}.gz").is_file()


def test_where_they_cannot_be_written_a_sentence_says_so(built):
    built.write_text("a file is in the way")
    with pytest.raises(CommandError, match=r"cannot be written .*collectstatic"):
        static_files.ensure_built()
