"""How real families of models write calls, as far as it matters here: each template shows tools, calls and results."""
TURNS = "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}{% for m in messages %}"
NEXT = "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

# As Qwen and Hermes: tags around an object, line breaks between.
HERMES = (
    TURNS + "<|im_start|>{{ m.role }}{% if m.content %}{{ '\n' + m.content }}{% endif %}{% for c in m.tool_calls or [] %}"
    '{{ "\n" }}<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}'
    "{% if not m.content and not m.tool_calls %}{{ '\n' }}{% endif %}<|im_end|>\n" + NEXT
)
# As Qwen 3: an empty thought stands before the last answer.
THINKS = HERMES.replace("<|im_start|>{{ m.role }}{% if", "<|im_start|>{{ m.role }}{% if loop.last and m.role == 'assistant' %}{{ '\n<think>\n\n</think>\n' }}{% endif %}{% if")
# As Llama 3: a bare object, "parameters" instead of arguments, and one call at most.
LLAMA = (
    TURNS + "<|im_start|>{{ m.role }}\n{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('one at a time') }}{% endif %}"
    '{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}'
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n" + NEXT
)
# As Mistral 7B 0.3: a list with ids, which have to be of nine characters.
MISTRAL = (
    TURNS + "{% if m.role == 'assistant' %}{% if m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}"
    "{% if c.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}, "id": "{{ c.id }}"}{{ ", " if not loop.last }}{% endfor %}]'
    "{% else %} {{ m.content }}{% endif %}<|im_end|>{% else %}[INST] {{ m.content }}[/INST]{% endif %}{% endfor %}"
)
# As later ones of Mistral: the name stands outside of the arguments.
NAMED = (
    TURNS + "<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
    "[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}{% endfor %}<|im_end|>\n" + NEXT
)
# As Qwen 3 Coder: arguments are no JSON.
XML = (
    TURNS + "<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<function={{ c.function.name }}>"
    "{% for k, v in c.function.arguments.items() %}<parameter={{ k }}>{{ v }}</parameter>{% endfor %}</function>{% endfor %}<|im_end|>\n" + NEXT
)
# As DeepSeek: adds texts, and breaks where the arguments are none.
ADDS = TURNS + "<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}{{ 'x' + c.function.arguments }}{% endfor %}<|im_end|>\n" + NEXT
