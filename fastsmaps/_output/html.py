"""A self-contained HTML page for a plotly figure: it loads nothing and runs no other script."""

from __future__ import annotations

import base64
import hashlib

# No button that uploads the drawing, as plotly.js has: names and command lines are private.
_START = """\
"use strict";
const figure = JSON.parse(document.getElementById("figure").textContent);
Plotly.newPlot("plot", figure.data, figure.layout, {
  responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
  typesetMath: false,
});
"""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>html, body, #plot {{ height: 100%; margin: 0 }}</style>
</head>
<body>
<div id="plot"></div>
<script type="application/json" id="figure">{figure}</script>
<script>{plotly}</script>
<script>{start}</script>
</body>
</html>
"""


def html_page(figure: str, title: str, plotly: str) -> str:
    """Return the HTML for a figure in JSON, an escaped title, and the source of plotly.js.

    Its Content-Security-Policy allows only the two scripts in it, and forbids loading anything.
    """
    plotly = plotly.replace("\r\n", "\n")  # the browser hashes it like this
    return _PAGE.format(
        policy=f"default-src 'none'; script-src {_hash(plotly)} {_hash(_START)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; font-src data:",
        title=title,
        # The browser parses it as HTML before it parses the script: no tag may begin in it.
        figure=figure.replace("<", "\\u003c"),
        plotly=plotly,
        start=_START,
    )


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
