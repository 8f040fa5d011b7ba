"""Progress in a log file: whole lines, not too many, each with a rate and what is left."""

import re

import pytest

from dinogen.progress import Lines, be_quiet, progress_bar


def test_without_a_terminal_progress_is_lines(capsys):
    with progress_bar(300, "crop", unit="photo", initial=100) as bar:
        assert isinstance(bar, Lines)
        bar.mininterval = 0
        for _ in range(2):
            bar.update(50)
            bar.refresh()
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"crop: 150 of 300 photo \(50%\), [\d.]+ photo/s, [\d:]+ left", lines[0])
    assert re.fullmatch(r"crop: 200 photo in [\d:]+, .*photo/s", lines[-1]) and len(lines) == 3


def test_unknown_totals_and_postfixes_fit_into_lines(capsys):
    with progress_bar(None, "fetch") as bar:
        bar.update(3)
        bar.set_postfix_str("loss 2")
    assert re.fullmatch(
        r"(fetch: 3 img, .*s, loss 2\n)?fetch: 3 img in [\d:]+, .*img/s, loss 2\n", capsys.readouterr().err
    )


def test_lines_come_ever_less_often(capsys):
    with progress_bar(1000, "pack") as bar:
        assert bar.mininterval == 10
        bar.start_t -= 3600
        bar.update()
        bar.refresh()
        assert bar.mininterval == 60


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_bars_count_too(quiet, capsys):
    with be_quiet(quiet), progress_bar(3, "draw") as bar:
        bar.update(2)
        assert bar.n == 2
    assert (capsys.readouterr().err == "") == quiet
