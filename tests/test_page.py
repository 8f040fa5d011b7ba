"""HTML reports: one file each, escaped, with pictures inside."""

import base64
import io
import re

import jinja2
import pytest
from PIL import Image

from dinogen.page import ENVIRONMENT, render


def fill(text: str, **values: object) -> str:
    return ENVIRONMENT.from_string('{% import "parts.html" as parts %}' + text).render(**values)


def test_what_is_filled_in_is_escaped():
    header = ["<h>", "ours"]
    rows = [[{"text": "<name>", "note": "<note>"}, {"text": "<1>", "best": True}], ["<b>", "&"]]
    page = fill("{{ parts.table(header, rows) }}", header=header, rows=rows)
    assert "&lt;name&gt;" in page and "&lt;note&gt;" in page and "<strong>&lt;1&gt;</strong>" in page
    assert not re.search("<(h|name|note|1|b)>", page)


def test_a_picture_lies_in_the_page():
    image = Image.new("RGB", (40, 30), (200, 30, 60))
    page = fill('{{ parts.tile(image, "a \\"caption\\"") }}{{ parts.picture(image, "title") }}', image=image)
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(found) == 2 and "a &#34;caption&#34;" in page
    opened = Image.open(io.BytesIO(base64.b64decode(found[0])))
    assert opened.size == (40, 30) and abs(opened.getpixel((20, 15))[0] - 200) < 8


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="pictures"):
        render("report.html", "title", report={"verdict": []}, footnote="")
