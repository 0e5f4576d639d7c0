"""What all our HTML pages share: looks, policy, footer. A page is one file that loads nothing and runs offline.

Templates extend `page.html.j2`, may import the macros of `parts.html.j2`, and are rendered by `render`. `page.css` has
the looks: light and dark mode, narrow screens, print on A4, and these classes and variables:

- `verdict` (with `good` or `poor`), `contents`, `table` (`wide` above eight columns, `words` with sentences),
  and of its cells `number`, `text` and `id`;
- `figure.plot` for dark ink on white, `figure.picture` for slices; `screen-only` for what is not printed;
- `normal_mild`, `moderate` and `severe` for cells of that grade, from `--normal-mild`, `--moderate` and `--severe`.
"""

import base64
import hashlib
from functools import cache, partial
from importlib import resources
from typing import Any, Final

import jinja2
from markupsafe import Markup

from shared.figures.marks import SEVERITY_COLORS

DISCLAIMER: Final = "Research software. Not a medical device: no page of it may guide the care of a patient."
_HERE: Final = "shared.figures"


def render(template: str, *, package: str = _HERE, style: str = "", script: str = "", **values: Any) -> str:
    """Renders a template that extends `page.html.j2`; every value is escaped unless it is `Markup`.

    Args:
      template: its file name.
      package: the package it lies in.
      style: CSS after that of all pages.
      script: JavaScript at the end of the body. The page's policy allows this one script and nothing else, so no
        element has a `style` or an `onclick` attribute.
      values: what the template names; `title` is needed.
    """
    css = looks() + style
    for name, text in (("style", css), ("script", script)):
        if "</" in text or "<!--" in text:
            raise ValueError(f"the page's {name} holds markup")
    page = _environment(package).get_template(template)
    return page.render(
        policy=_policy(css, script), style=Markup(css), script=Markup(script), disclaimer=DISCLAIMER, **values
    )


def shortened(text: str, *, head: int = 8, tail: int = 8) -> str:
    """The beginning and the end of a long id. UIDs of one study differ at their end."""
    return text if len(text) <= head + tail + 1 else f"{text[:head].rstrip('.')}…{text[-tail:].lstrip('.')}"


@cache
def looks() -> str:
    """The CSS of all pages, with the colours that figures use."""
    colors = " ".join(f"--{grade.column.replace('_', '-')}: {color};" for grade, color in SEVERITY_COLORS.items())
    css = resources.files(_HERE).joinpath("page.css").read_text(encoding="utf-8")
    return f"{css}:root {{ {colors} }}\n"


@cache
def _environment(package: str) -> jinja2.Environment:
    loaders = [jinja2.FunctionLoader(partial(_source, folder)) for folder in dict.fromkeys((package, _HERE))]
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def _source(package: str, name: str) -> str | None:
    path = resources.files(package).joinpath(name)
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _policy(style: str, script: str) -> str:
    """Nothing but this style, this script and embedded pictures: a page of hostile data can load and run nothing."""
    parts = ["default-src 'none'", "img-src data:", f"style-src {_digest(style)}"]
    if script:
        parts.append(f"script-src {_digest(script)}")
    return "; ".join([*parts, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
