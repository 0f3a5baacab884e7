"""Models wrap answers in chatter; this takes the answer out before it is graded."""

import re
from typing import Literal, assert_never

Extract = Literal["none", "fence", "first_line"]

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:\n?[ \t]*```|\Z)", re.DOTALL)


def extracted(text: str, how: Extract) -> str:
    """ "none": `text` as it is. "fence": the content of its first ``` block (open at the end, if the answer was cut off),
    without any the whole text stripped. "first_line": its first line that is not blank, stripped.
    """
    match how:
        case "none":
            return text
        case "fence":
            found = _FENCE.search(text)
            return (found.group(1) if found else text).strip()
        case "first_line":
            return next((line.strip() for line in text.splitlines() if line.strip()), "")
        case _:
            assert_never(how)
