"""The description of the API as a page of our own: the usual ones load their scripts from other sites."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, Final

_EXAMPLE: Final = "curl -F files=@image.png -F files=@other.dcm http://127.0.0.1:7860/api/predict"


def reference_page(described: dict[str, Any]) -> str:
    """HTML of all addresses and of the shapes of their answers.

    Args:
        described: an OpenAPI document.
    """
    info = described["info"]
    body = "\n".join([*_paths(described), *_schemas(described)])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API: {escape(info["title"])}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="report.css">
</head>
<body>
<div class="sheet">
<header><p class="eyebrow"><span>firstread {escape(info["version"])}</span> <span>HTTP API</span></p>
<h1>{escape(info["title"])}</h1></header>
<main>
<p>{escape(info["description"])}</p>
<p>The same for programs: <a href="openapi.json">openapi.json</a>. The page: <a href="./">read images</a>.</p>
<pre>{escape(_EXAMPLE)}</pre>
{body}
</main>
</div>
</body>
</html>
"""


def _paths(described: dict[str, Any]) -> Iterator[str]:
    for path, methods in described["paths"].items():
        for method, said in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>\n<p>{escape(said.get('summary', ''))}.</p>"
            parameters = said.get("parameters", [])
            if parameters:
                yield _table(
                    ("Query", "Type", "Default"),
                    [
                        (item["name"], _type(item["schema"]), str(item["schema"].get("default")).lower())
                        for item in parameters
                    ],
                )
            if "requestBody" in said:
                yield "<p>Body: <code>multipart/form-data</code>, one or many files in the field <code>files</code>.</p>"
            rows = [(status, _words(answer)) for status, answer in said["responses"].items()]
            yield _table(("Status", "Meaning"), rows)


def _words(answer: dict[str, Any]) -> str:
    shapes = [
        held.get("schema", {}).get("$ref", "").rpartition("/")[2] or kind
        for kind, held in answer.get("content", {}).items()
    ]
    text = answer.get("description", "")
    said = "" if text == "Successful Response" else text
    return ": ".join(part for part in (", ".join(shapes), said) if part)


def _schemas(described: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Shapes</h2>"
    for name, schema in described["components"]["schemas"].items():
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3>\n<p>{escape(schema.get("description", ""))}</p>'
        rows = [(key, _type(held), held.get("description", "")) for key, held in schema.get("properties", {}).items()]
        yield _table(("Field", "Type", "Meaning"), rows)


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(item) for item in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", json.dumps(schema)))


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    lines = [
        f'<tr><th scope="row"><code>{escape(str(first))}</code></th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    ]
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
