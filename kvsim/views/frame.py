"""A trace in a notebook: its last step as a picture, the table of all steps, and below them the page."""

from kvsim.comparisons.trace_record import Trace
from kvsim.i18n.language import Say, language_of
from kvsim.views.html_table import to_html as draw_table
from kvsim.views.page.kinds import to_html as make_page
from kvsim.views.picture.trace import draw_step
from kvsim.views.terminal.trace import trace_parts

MOST_STEPS = 500  # of a trace whose page stands in a notebook
MOST_BYTES = 800_000  # of that page
_HEIGHT = 860  # pixels; the page scrolls


def quote_page(page: str) -> str:
    """A page as the value of an attribute in single quotes: scripts and JSON hold few of these."""
    return page.replace("&", "&amp;").replace("'", "&#39;")


def _make_frame(trace: Trace, say: Say) -> str:
    """The page in a frame that may run its own scripts and reach nothing around it; of a long trace a sentence."""
    page = make_page(trace, language_of(say)) if len(trace.steps) <= MOST_STEPS else b""
    if not 0 < len(page) <= MOST_BYTES:
        text = say(
            "The page of this trace is not shown in a notebook: at most {steps} steps and {bytes} bytes are."
            " kvsim trace --html FILE writes it."
        ).format(steps=MOST_STEPS, bytes=f"{MOST_BYTES:,}")
        return f"<div>{text}</div>"
    style = f"width: 100%; height: {_HEIGHT}px; border: 0"
    return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc=\'{quote_page(page.decode())}\'></iframe>'


def frame_trace(trace: Trace, say: Say) -> str:
    """HTML of bounded size. Sites that remove frames keep the picture and the table, which need no script."""
    title = say("all steps")
    table = draw_table(trace_parts(trace, say), language_of(say))
    parts = [
        f'<div style="overflow-x: auto">{draw_step(trace, say)}</div>',
        f"<details><summary>{title}</summary>{table}</details>",
        _make_frame(trace, say),
    ]
    return f'<div lang="{language_of(say)}">{"".join(parts)}</div>'
