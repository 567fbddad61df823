#!/usr/bin/env python3
"""Writes templates.json: chat templates, conversations, and the prompts that transformers makes of them.

The templates are written for this project. They produce the formats of known model families, with the
constructs that templates of such families use. Needs transformers and jinja2:

    python make_templates.py
"""

import datetime
import json
import pathlib

from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2024, 7, 5)


class PinnedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


# Turns in <|im_start|> and <|im_end|>; what was thought before the last question is left out.
QWEN3 = r"""
{%- if tools %}
    {{- '<|im_start|>system\n# Tools\n' }}
    {%- for tool in tools %}{{- '\n' ~ (tool | tojson) }}{%- endfor %}
    {{- '<|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last_question=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == 'user' and message.content is string and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last_question = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set text = message.content if message.content is string else '' %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + text + '<|im_end|>\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in text %}
            {%- set thought = text.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set text = text.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.index0 > ns.last_question and (loop.last or thought) %}
            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}
        {%- endif %}
        {{- text + '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or (messages[loop.index0 - 1].role != 'tool') %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\n<tool_response>\n' + text + '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != 'tool') %}{{- '<|im_end|>\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}
"""

# The same turns with an instruction of its own where the messages give none.
QWEN2_5_MATH = """{% if messages[0]['role'] == 'system' %}
    {% set system = messages[0]['content'] %}
    {% set turns = messages[1:] %}
{% else %}
    {% set system = 'Please reason step by step, and put your final answer within \\\\boxed{}.' %}
    {% set turns = messages %}
{% endif %}
<|im_start|>system
{{ system }}<|im_end|>
{% for turn in turns %}
<|im_start|>{{ turn['role'] }}
{{ turn['content'] }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# One line; the thoughts of the history are left out, and the model's turn begins with a thought.
DEEPSEEK_R1_DISTILL = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(system='', first=true) %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system = message['content'] %}"
    "{%- endif %}{%- endfor %}{{bos_token}}{{ns.system}}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['content'] is not none %}"
    "{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- set ns.first = false -%}{%- endif %}"
    "{%- endfor -%}"
    "{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"
)

# Headers, and a system turn with dates that the clock tells where there is one.
LLAMA_3_2 = r"""{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages and messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}{{- "Environment: ipython\n" }}{%- endif %}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or (message.content is iterable and message.content is not string) %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

# Two roles that must take turns, as plain words.
DEEPSEEK_MATH = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('there is no role ' ~ message['role']) }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

# What this project gives a base model that comes without a template.
PLAIN = "{{ bos_token }}{% for message in messages %}{{ message.content }}\n{% endfor %}"

# The constructs that no family above needs but others use.
CONSTRUCTS = {
    "trimmed blocks": "a\n  {% if true %}\n  b\n  {% endif %}\nc\n  {# no #}\nd {{- ' e' }}\n\n{%+ if true %} f{% endif +%}\ng\n",
    "carriage returns": "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\n{{ 'c\r\nd' }}\r\n",
    "generation marks": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}\n{{ m.content }}{% endgeneration %}\n{% else %}{{ m.content }}{%- generation -%} x {%- endgeneration -%}{% endif %}{% endfor %}",
    "generation scope": "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "roles alternate": "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must take turns: user, assistant, user, ...') }}{% endif %}{{ m.content }}{% endfor %}",
    "loop controls": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% if loop.index >= 3 %}{% break %}{% endif %}{% endfor %}",
    "loop variables": "{% for m in messages %}[{{ loop.index }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }} {{ loop.length }} {{ loop.cycle('a', 'b') }} {{ loop.previtem.role if loop.previtem is defined else '-' }} {{ loop.nextitem.role if not loop.last else '-' }} {{ loop.changed(m.role) }}]{% else %}none{% endfor %}",
    "loop filter": "{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ m.content }}{% endfor %}",
    "slices": "{{ messages[-1].content }}|{{ messages[1:-1]|length }}|{{ (messages[::-1])[0].content }}|{{ 'abcdef'[::-1] }}|{{ 'abcdef'[1:5:2] }}|{{ 'abcdef'[-3:] }}|{{ messages[:1][0]['role'] }}|{{ [1,2,3,4][::-2] }}",
    "texts": "{{ ' a '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'a,b,c'.split(',') | join(';') }}|{{ 'a,b,c'.split(',', 1)[1] }}|{{ ' a  b '.split() | join(';') }}|{{ 'abc'.replace('b', 'x') }}|{{ 'abc'.upper() }}|{{ 'ABC'.lower() }}|{{ 'ab cd'.title() }}|{{ 'aBC'.capitalize() }}|{{ 'abc'.find('c') }}|{{ ','.join(['a', 'b']) }}|{{ 'abc'.startswith(('x', 'a')) }}|{{ 'abc'.endswith('bc') }}|{{ 'aba'.count('a') }}|{{ 'a\nb'.splitlines() | join('+') }}|{{ '  a'.lstrip() }}|{{ 'a  '.rstrip() }}|{{ 'a' * 3 }}|{{ 'b' in 'abc' }}|{{ 'x' not in 'abc' }}",
    "filters": "{{ '  a '|trim }}|{{ ['b', 'a']|sort|join }}|{{ messages|map(attribute='role')|join(',') }}|{{ messages|map(attribute='role')|list|length }}|{{ messages|selectattr('role', 'equalto', 'user')|list|length }}|{{ messages|rejectattr('role', 'equalto', 'user')|map(attribute='role')|join('+') }}|{{ [3,1,2]|sort(reverse=true)|first }}|{{ [1,2]|last }}|{{ missing|default('d') }}|{{ ''|default('e', true) }}|{{ 'a'|upper }}|{{ 'A'|lower }}|{{ 'abc'|replace('b', '-') }}|{{ '3'|int + 1 }}|{{ 2.5|int }}|{{ [1,2,3]|sum }}|{{ [1,1,2]|unique|list|length }}|{{ 'ab'|list|join(' ') }}|{{ 'a b'|title }}|{{ 'ab'|capitalize }}|{{ 'ab'|length }}|{{ -3|abs }}|{{ [1,2,3]|min }}{{ [1,2,3]|max }}|{{ [0,1]|select|list|length }}|{{ 5|string ~ 1 }}|{{ ['a','b']|reverse|join }}|{{ 'x\ny'|indent(2) }}",
    "dictionaries": "{% set d = {'b': 1, 'a': {'c': [1, 2]}} %}{{ d.b }}{{ d['a'].c[1] }}{{ d.get('x', 'no') }}{{ d.get('y') }}{% for k, v in d.items() %}{{ k }},{% endfor %}{% for k, v in d|dictsort %}{{ k }};{% endfor %}{{ d.keys()|list|join(' ') }}{{ 'b' in d }}{{ d|length }}{% for k, v in d|items %}{{ k }}{% endfor %}{% for k in d %}{{ k }}{% endfor %}{{ dict(a=1).a }}",
    "json": "{{ {'b': [1, 2.5, true, none, 1e30, 1e-7], 'a': 'é<\"&\\n\\u0001\\x7f', 'c': {}, 'd': []}|tojson }}\n{{ {'b': 1, 'a': [1, {'x': []}]}|tojson(indent=4) }}\n{{ {'b': 1, 'a': 'é\U0001F600\x7f'}|tojson(sort_keys=true, ensure_ascii=true) }}\n{{ {'a': 1, 'b': 2}|tojson(separators=(',', ':')) }}{{ messages|tojson }}{{ []|tojson(indent=2) }}",
    "tests": "{{ 'a' is string }}{{ 1 is string }}{{ {} is mapping }}{{ [] is mapping }}{{ [] is iterable }}{{ 'a' is iterable }}{{ 1 is iterable }}{{ x is defined }}{{ x is undefined }}{{ none is none }}{{ false is false }}{{ true is true }}{{ 0 is false }}{{ 1 is number }}{{ 1.5 is float }}{{ 2 is even }}{{ 3 is odd }}{{ [] is sequence }}{{ 4 is divisibleby 2 }}{{ 'a' is in ['a'] }}{{ 1 is eq 1 }}{{ true is boolean }}{{ 1 is integer }}{{ tools is none }}{{ enable_thinking is defined }}{{ none is iterable }}{{ missing is iterable }}{{ 'a' is sequence }}{{ {} is sequence }}{{ none is sequence }}{{ missing is sequence }}{{ 1 is sequence }}{{ ('a', 1) is sequence }}",
    "printing": "{{ none }}|{{ true }}|{{ false }}|{{ missing }}|{{ 1.0 }}|{{ 3 // 2 }}|{{ 3 / 2 }}|{{ 7 % 4 }}|{{ 2 ** 5 }}|{{ 1 ~ none ~ true ~ missing }}|{{ [1, 'a', none, true] }}|{{ {'a': 1} }}|{{ (1, 2) }}|{{ \"it's\" }}|{{ ['it\\'s', \"q\\\"\"] }}",
    "undefined": "{% for x in missing %}{{ x }}{% else %}empty{% endfor %}{% if missing %}yes{% else %}no{% endif %}{{ messages[0].nothing }}{{ messages[0]['nothing'] is defined }}{{ missing is none }}{{ missing == none }}{{ 'a' if missing }}|{{ messages[99] is defined }}|{{ not missing }}",
    "undefined attribute": "{{ missing.attribute }}",
    "undefined sum": "{{ 'a' + missing }}",
    "number and text": "{{ 'a' + 1 }}",
    "macros": "{% macro turn(role, text='-', end='\\n') %}<{{ role }}>{{ text }}{{ caller() if caller }}{{ end }}{% endmacro %}{% for m in messages %}{{ turn(m.role, text=m.content) }}{% endfor %}{% call turn('x', end='') %}called{% endcall %}{{ turn('y') }}",
    "assignments": "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set x %}{% for m in messages %}{{ m.role }} {% endfor %}{% endset %}{{ x|trim }}{% with c = 3, d = 4 %}{{ c }}{{ d }}{% endwith %}{{ c }}{% set ns = namespace(list=[], n=0) %}{% for m in messages %}{% set ns.list = ns.list + [m.role] %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.list|join('/') }}{{ ns.n }}{% for i in range(3) %}{% set a = i %}{% endfor %}{{ a }}",
    "operators": "{{ 1 < 2 < 3 }}{{ 1 == 1.0 }}{{ not 1 > 2 and 'x' or 'y' }}{{ 'a' < 'b' }}{{ [1] + [2] }}{{ 'a' ~ 1 ~ 2.0 }}{{ 1 if false else 2 }}{{ '' or 'z' }}{{ none == none }}{{ 1 in [1] }}{{ 2 not in [1] }}{{ -1 + 2 * 3 }}{{ (1 + 2) * 3 }}{{ 'abc' == \"abc\" }}{{ [1, 2] == [1, 2] }}{{ 1 != 2 }}",
    "escapes": "{{ 'tab\\tnew\\nline \\u00e9 \\x41 back\\\\slash \\'quote\\'' }}{% raw %}{{ raw {% x %} }}{% endraw %}{{ '{{' }}{{ '%}' }}",
    "dates": "{{ strftime_now('%Y-%m-%d %H:%M %A %B %-d %j') }}",
    "messages only": "{% if messages %}{{ messages|length }}{% else %}no messages{% endif %}",
    "exception of a list": "{{ raise_exception('only ' ~ ['user', 'assistant']|join(', ') ~ ' may speak') }}",
    "closing recursion": "{% for m in [{'a': [{'a': []}]}] recursive %}<{{ loop.depth }}{{ loop(m.a) }}>{% endfor %}",
}

FAMILIES = {
    "qwen3": (QWEN3, None, "<|im_end|>"),
    "qwen2.5-math": (QWEN2_5_MATH, None, "<|im_end|>"),
    "deepseek-r1-distill-qwen": (DEEPSEEK_R1_DISTILL, "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "llama-3.2": (LLAMA_3_2, "<|begin_of_text|>", "<|eot_id|>"),
    "deepseek-math": (DEEPSEEK_MATH, "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "plain": (PLAIN, None, None),
}


def turns(*texts):
    return [{"role": role, "content": content} for role, content in texts]


BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
CONVERSATIONS = {
    "question": turns(("user", "What is $1+1$?")),
    "system and question": turns(("system", BOXED), ("user", "Find all real $x$ with\n\\[x^2 = 4.\\]\n")),
    "history": turns(
        ("system", "  Be brief.\n"),
        ("user", "What is 2+2?"),
        ("assistant", "<think>\nTwo and two.\n</think>\n\nIt is 4."),
        ("user", "And 3+3? <b>&\"'"),
    ),
    "answered": turns(("user", "Hi"), ("assistant", "<think>\nHm.\n</think>\n\nHello."), ("user", "2·3?"), ("assistant", "<think>\nSix…\n</think>\n\n\\boxed{6}")),
    "tools": turns(("user", "<tool_response>x</tool_response>"), ("assistant", "ok"), ("tool", "1"), ("tool", "2"), ("user", "end {{ 7 }} {% x %}")),
    "nobody": [],
}


def render(source, conversation, bos, eos, options):
    tokens = {name: token for name, token in (("bos_token", bos), ("eos_token", eos)) if token is not None}
    options = {name: value for name, value in options.items() if value is not None}
    prompts, _ = chat_template_utils.render_jinja_template([conversation], chat_template=source, **options, **tokens)
    return prompts[0]


def case(template, source, name, bos, eos, add_generation_prompt, enable_thinking=None):
    options = {"add_generation_prompt": add_generation_prompt, "enable_thinking": enable_thinking}
    made = {"template": template, "conversation": name, **options}
    try:
        made["prompt"] = render(source, CONVERSATIONS[name], bos, eos, options)
    except Exception as error:  # Whatever Jinja raises, this project must refuse too.
        made["error"] = str(error) if type(error).__name__ == "TemplateError" else ""
    return made


def table(families, constructs):
    templates = {
        **{name: {"source": source, "bos": bos, "eos": eos} for name, (source, bos, eos) in families.items()},
        **{name: {"source": source, "bos": "<s>", "eos": "</s>"} for name, source in constructs.items()},
    }
    cases = []
    for name, (source, bos, eos) in families.items():
        for conversation in CONVERSATIONS:
            for prompt in (False, True):
                for thinking in (None, False, True):
                    cases.append(case(name, source, conversation, bos, eos, prompt, thinking))
    for name, source in constructs.items():
        for conversation in ("history", "question"):
            cases.append(case(name, source, conversation, "<s>", "</s>", True))
    return {"date": [NOW.year, NOW.month, NOW.day], "templates": templates, "conversations": CONVERSATIONS, "cases": cases}


def pin_clock():
    chat_template_utils.datetime = PinnedClock


if __name__ == "__main__":
    pin_clock()
    text = json.dumps(table(FAMILIES, CONSTRUCTS), ensure_ascii=False, indent=1)
    (HERE / "templates.json").write_text(text + "\n", encoding="utf-8")
