"""A page of its own for a figure of plotly's: nothing is loaded, nothing else runs."""

from __future__ import annotations

import base64
import hashlib

# Names and command lines are nobody else's: plotly.js has a button that uploads what is drawn.
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


def page_of(figure: str, title: str, plotly: str) -> str:
    """The HTML: a figure in JSON, a title in which nothing is markup, and plotly.js's text.

    Its Content-Security-Policy forbids it to load anything, and any script but the two that it
    was written with.
    """
    plotly = plotly.replace("\r\n", "\n")  # as the browser hashes it
    return _PAGE.format(
        policy=f"default-src 'none'; script-src {_hash(plotly)} {_hash(_START)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; font-src data:",
        title=title,
        # Parsed as HTML before it is parsed as a script: no tag may begin there.
        figure=figure.replace("<", "\\u003c"),
        plotly=plotly,
        start=_START,
    )


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
