import pytest
from tool_templates import ADDS, HERMES, LLAMA, MISTRAL, NAMED, THINKS, XML

from feinschliff.core.chat import FunctionCall, Message, ToolCall, user
from feinschliff.core.errors import BadData
from feinschliff.data.template import ChatTemplate
from feinschliff.data.tool_calls import CallReader, forced
from feinschliff.data.tool_format import Function, NamedCall, ObjectCall, ToolFormat, learn
from tiny import CHATML, NO_SYSTEM

TOOLS = [{"type": "function", "function": {"name": n, "parameters": {"type": "object"}}} for n in ("f", "g")]
CALLS = [FunctionCall(name="f", arguments='{"city": "Zürich \\"x\\" {", "n": [1, {"a": null}]}'), FunctionCall(name="g", arguments="{}")]
KNOWN = [CHATML, HERMES, THINKS, LLAMA, MISTRAL, NAMED]


def template(source):
    return ChatTemplate(source, special_tokens={"eos_token": "<|im_end|>"})


def format_of(source) -> ToolFormat:
    found = learn(template(source)).format
    assert found is not None
    return found


def written(source, calls):
    """What a model writes who does it as its template does."""
    t = template(source)
    made = tuple(ToolCall(id=f"abcdefgh{i}", function=c) for i, c in enumerate(calls))
    before = t.render([user("q")], tools=TOOLS, answer_next=True)
    after = t.render([user("q"), Message(role="assistant", tool_calls=made)], tools=TOOLS, answer_next=False)
    assert after.startswith(before)
    return after[len(before) :].partition("<|im_end|>")[0]


def read(source, text, *, step, several=True, cut=False, begun=None):
    """Calls, and the text beside them, from an answer that comes in pieces of `step` characters."""
    reader = CallReader(format_of(source), frozenset("fg"), several=several, written=begun)
    told = [part for i in range(0, len(text), step) for part in reader.push(text[i : i + step])] + reader.finish(cut=cut)
    return "".join(t for t in told if isinstance(t, str)), [t for t in told if isinstance(t, FunctionCall)]


def test_the_form_is_what_stands_around_a_call():
    assert format_of(HERMES) == ToolFormat("", "<tool_call>\n", "\n</tool_call>\n<tool_call>\n", ObjectCall("name", "arguments"))
    assert format_of(THINKS).prelude == "<think>\n\n</think>\n\n"
    assert format_of(LLAMA) == ToolFormat("", "", None, ObjectCall("name", "parameters"))
    assert format_of(MISTRAL) == ToolFormat("", "[TOOL_CALLS] [", ", ", ObjectCall("name", "arguments"))
    assert format_of(NAMED) == ToolFormat("", "[TOOL_CALLS]", "[TOOL_CALLS]", NamedCall("[ARGS]"))


@pytest.mark.parametrize(("source", "offers", "shows"), [(NO_SYSTEM, False, False), (XML, True, True), (ADDS, True, False)])
def test_a_template_without_calls_or_with_a_form_that_is_no_json_has_none(source, offers, shows):
    found = learn(template(source))
    assert (found.offers, found.shows_calls, found.format) == (offers, shows, None)


def test_a_template_that_breaks_on_a_conversation_is_an_error_of_that_conversation():
    with pytest.raises(BadData, match="refuses this conversation"):
        template(ADDS).render([Message(role="assistant", tool_calls=(ToolCall(function=CALLS[0]),))], tools=None, answer_next=False)


@pytest.mark.parametrize("source", KNOWN)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_what_a_template_writes_is_read_back_however_it_comes(source, step):
    several = CALLS if source != LLAMA else CALLS[:1]
    text = written(source, several).removeprefix("<think>\n\n</think>\n\n")
    assert read(source, text, step=step) == ("", several)
    assert read(source, text, step=step, several=False) == ("", several[:1])


@pytest.mark.parametrize("source", [CHATML, HERMES, MISTRAL, NAMED])
@pytest.mark.parametrize("step", [1, 10_000])
def test_text_before_a_call_is_told_and_text_without_one_is_left_whole(source, step):
    call = written(source, CALLS[:1])
    assert read(source, "Let me see. " + call, step=step) == ("Let me see.", CALLS[:1])
    for text in ("", "a < b <tool_ca [TOOL", " \n", "{ x", "<tool_call> is a tag, [TOOL_CALLS] too", "  two\n\nparts \n"):
        assert read(source, text, step=step) == (text, [])


@pytest.mark.parametrize("step", [1, 10_000])
def test_what_is_no_call_of_what_is_offered_is_text(step):
    for source in (LLAMA, HERMES):
        other = written(source, [FunctionCall(name="other", arguments='{"a": 1}')])
        assert read(source, other, step=step) == (other, [])
    for text in ('{"answer": 42}', '{"name": "f", "parameters": 3} and so on', "so: " + written(LLAMA, CALLS[:1])):
        assert read(LLAMA, text, step=step) == (text, [])


@pytest.mark.parametrize("source", KNOWN)
def test_a_call_that_was_cut_has_its_name_and_what_there_is_of_its_arguments(source):
    whole = written(source, CALLS[:1]).removeprefix("<think>\n\n</think>\n\n")
    text = whole[: whole.index("rich")]
    assert read(source, text, step=3, cut=True) == ("", [FunctionCall(name="f", arguments='{"city": "Zü')])
    assert read(source, text, step=3) == (text, [])


def test_text_is_told_as_soon_as_it_is_certain():
    reader = CallReader(format_of(HERMES), frozenset("f"))
    assert reader.push("One <") == ["One"]
    assert reader.push("b> two\n<tool") == [" <b> two"]
    assert reader.push("box>") == ["\n<toolbox>"]


@pytest.mark.parametrize("source", KNOWN)
def test_a_forced_call_begins_as_the_template_would(source):
    way = forced(format_of(source), [Function("f", {"type": "object"})])
    assert way is not None
    rest = written(source, CALLS[:1]).removeprefix(way.begun)
    assert written(source, CALLS[:1]) == way.begun + rest
    assert rest.startswith("{")
    assert read(source, rest, step=1, begun=way.written) == ("", CALLS[:1])


def test_names_outside_of_the_json_cannot_be_held_to_a_choice():
    assert forced(format_of(NAMED), [Function("f", {}), Function("g", {})]) is None


def test_references_in_a_schema_are_still_right_inside_of_a_calls():
    parameters = {"type": "object", "properties": {"p": {"$ref": "#/$defs/P"}}, "$defs": {"P": {"type": "integer"}}}
    one = ObjectCall("name", "arguments").schema([Function("f", parameters)])
    assert one["properties"]["arguments"]["properties"]["p"] == {"$ref": "#/properties/arguments/$defs/P"}
    two = ObjectCall("name", "arguments").schema([Function("f", {}), Function("g", parameters)])
    assert two["anyOf"][1]["properties"]["arguments"]["properties"]["p"] == {"$ref": "#/anyOf/1/properties/arguments/$defs/P"}
