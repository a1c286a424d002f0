"""A self-contained HTML page: it loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from typing import Any

_STYLES = ("page.css",)
_SCRIPTS = ("page.js", "treemap.js", "course.js")

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<noscript>This page needs JavaScript. It loads nothing from the network.</noscript>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def html_page(title: str, data: dict[str, Any]) -> str:
    """Return the HTML that shows the data; page.js reads it.

    The Content-Security-Policy allows only the script and the style in it, and no request.
    """
    style, script = map(_source, (_STYLES, _SCRIPTS))
    return _PAGE.format(
        policy=f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'",
        title=html.escape(title),
        style=style,
        # The browser parses it as HTML before it parses the JSON: no tag may begin in it.
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        script=script,
    )


def _source(names: tuple[str, ...]) -> str:
    from importlib.resources import files

    directory = files("fastsmaps._output")
    return "".join((directory / name).read_text("utf-8") for name in names)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
