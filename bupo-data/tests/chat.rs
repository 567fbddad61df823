#![allow(clippy::unwrap_used)]

//! Chat templates: the same prompts as transformers, and limits on templates that take much time or memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bupo_data::Message;
use bupo_data::chat::{ChatError, ChatTemplate, RenderOptions, TemplateDate};
use serde::Deserialize;

/// Made by `tests/chat/make_templates.py`.
const TABLE: &str = include_str!("chat/templates.json");

#[derive(Deserialize)]
struct Table {
    date: (i32, u32, u32),
    templates: BTreeMap<String, Template>,
    conversations: BTreeMap<String, Vec<Message>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Template {
    source: String,
    bos: Option<String>,
    eos: Option<String>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    add_generation_prompt: bool,
    enable_thinking: Option<bool>,
    prompt: Option<String>,
    error: Option<String>,
}

fn user(content: &str) -> Vec<Message> {
    vec![Message { role: "user".to_owned(), content: content.to_owned() }]
}

fn render(source: &str, content: &str) -> Result<String, ChatError> {
    ChatTemplate::new(source, None, None)?.render(&user(content), &RenderOptions::default())
}

#[test]
fn prompts_are_those_of_python() {
    let table: Table = serde_json::from_str(TABLE).unwrap();
    assert!(table.cases.len() > 200, "the table has only {} cases", table.cases.len());
    let (year, month, day) = table.date;
    let date: TemplateDate = format!("{year}-{month:02}-{day:02}").parse().unwrap();
    for case in &table.cases {
        let Template { source, bos, eos } = &table.templates[&case.template];
        let template = ChatTemplate::new(source, bos.as_deref(), eos.as_deref()).unwrap();
        let options =
            RenderOptions { add_generation_prompt: case.add_generation_prompt, enable_thinking: case.enable_thinking };
        let template = template.with_date(date);
        let prompt = template.render(&table.conversations[&case.conversation], &options);
        let place = format!("{} on {}, {options:?}", case.template, case.conversation);
        match (&case.prompt, case.error.as_deref()) {
            (Some(expected), _) => assert_eq!(&prompt.unwrap(), expected, "{place}"),
            (None, Some("")) => assert!(matches!(prompt, Err(ChatError::Render(_))), "{place}: {prompt:?}"),
            (None, raised) => match prompt {
                Err(ChatError::Raised(message)) => assert_eq!(Some(message.as_str()), raised, "{place}"),
                other => panic!("{place}: {other:?}"),
            },
        }
    }
}

#[test]
fn the_plain_template_writes_only_texts() {
    let table: Table = serde_json::from_str(TABLE).unwrap();
    let plain = ChatTemplate::named("plain").unwrap();
    for case in table.cases.iter().filter(|case| case.template == "plain") {
        let prompt = plain.render(&table.conversations[&case.conversation], &RenderOptions::default()).unwrap();
        assert_eq!(Some(&prompt), case.prompt.as_ref());
    }
    assert!(ChatTemplate::named("fancy").unwrap_err().to_string().contains("the only one is `plain`"));
}

#[test]
fn configs_may_have_one_or_several_templates() {
    let render = |config: &str, jinja: Option<&str>| {
        let template = ChatTemplate::from_tokenizer_config(config, jinja).unwrap();
        template.map(|template| template.render(&user("hi"), &RenderOptions::default()).unwrap())
    };
    let text = r#"{"chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}}"#;
    assert_eq!(render(text, None).as_deref(), Some("<s>hi</s>"));
    assert_eq!(render(text, Some("{{ eos_token }}!")).as_deref(), Some("</s>!"));
    let list = r#"{"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}], "bos_token": null}"#;
    assert_eq!(render(list, None).as_deref(), Some("yes"));
    assert_eq!(render(r#"{"model_max_length": 1e30}"#, None), None);
    assert_eq!(render("{}", Some("{{ bos_token }}x")).as_deref(), Some("x"));

    let error = |config: &str| ChatTemplate::from_tokenizer_config(config, None).unwrap_err().to_string();
    assert!(error(r#"{"chat_template": [{"name": "rag", "template": "x"}]}"#).contains("only [`rag`]"));
    assert!(error(r#"{"chat_template": 3}"#).contains("`chat_template` must be a string"));
    assert!(error(r#"{"eos_token": [1]}"#).contains("a special token must be"));
    assert!(error("{").starts_with("tokenizer_config.json: "));
}

#[test]
fn the_date_is_fixed_when_a_template_is_made() {
    let render = |template: &ChatTemplate| template.render(&user("x"), &RenderOptions::default()).unwrap();
    let source = "{{ strftime_now('%Y-%m-%dT%H:%M:%S') }}";
    let template = ChatTemplate::new(source, None, None).unwrap();
    let first = render(&template);
    assert_eq!(first, template.date().to_string());
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(render(&template), first, "a template may not read the clock when it is rendered");
    let date: TemplateDate = "2024-07-26T10:20:30".parse().unwrap();
    assert_eq!(render(&template.with_date(date)), "2024-07-26T10:20:30");
}

#[test]
fn uses_date_is_true_of_templates_that_mention_the_date() {
    let uses_date = |source: &str| ChatTemplate::new(source, None, None).unwrap().uses_date();
    assert!(uses_date("{{ strftime_now('%d') }}"));
    assert!(uses_date("{% if strftime_now is defined %}{% set day = strftime_now('%d') %}{% endif %}"));
    assert!(!uses_date("strftime_now {{ 'strftime_now' }} {# strftime_now #}"));
    assert!(!ChatTemplate::named("plain").unwrap().uses_date());
}

#[test]
fn errors_name_what_is_wrong() {
    let error = |source: &str| render(source, "x").unwrap_err().to_string();
    assert!(error("a\n{% if %}").contains("does not parse: line 2"), "{}", error("a\n{% if %}"));
    assert!(error("{{ raise_exception('no tools here') }}").contains("refuses these messages: no tools here"));
    assert!(error("\n\n{{ missing.x }}").contains("line 3"), "{}", error("\n\n{{ missing.x }}"));
    assert!(error("{% include 'x' %}").contains("does not parse"));
    assert!(error("{{ 'a'.format(1) }}").contains("failed"));
}

#[test]
fn long_conversations_are_not_stopped() {
    let table: Table = serde_json::from_str(TABLE).unwrap();
    let turns = (0..1000).map(|turn| Message {
        role: ["user", "assistant"][turn % 2].to_owned(),
        content: format!("<think>\n{}\n</think>\n\nIt is {turn}.", "hm ".repeat(turn)),
    });
    let turns: Vec<_> = turns.collect();
    for (name, template) in table.templates.iter().filter(|(name, _)| !name.contains(' ')) {
        let template = ChatTemplate::new(&template.source, Some("<s>"), Some("</s>")).unwrap();
        let options = RenderOptions { add_generation_prompt: true, enable_thinking: None };
        let Err(error) = template.render(&turns, &options) else { continue };
        assert!(matches!(error, ChatError::Raised(_)), "{name}: {error}");
    }
}

/// Templates that take much time, memory or stack.
fn expensive_templates() -> Vec<(&'static str, String)> {
    let repeated = |text: &str, times: usize| text.repeat(times);
    let doubled = |op: &str| {
        format!(
            "{{% set ns = namespace(x='ab') %}}{{% for i in range(60) %}}{{% set ns.x = {op} %}}{{% endfor %}}{{{{ ns.x|length }}}}"
        )
    };
    let nested = |op: &str, use_of: &str| {
        format!(
            "{{% set ns = namespace(x=[]) %}}{{% for i in range(60) %}}{{% set ns.x = {op} %}}{{% endfor %}}{use_of}"
        )
    };
    vec![
        ("doubled by ~", doubled("ns.x ~ ns.x")),
        ("doubled by +", doubled("ns.x + ns.x")),
        ("doubled by *", doubled("ns.x * 2")),
        ("doubled by join", doubled("[ns.x, ns.x]|join")),
        ("doubled by str.join", doubled("ns.x.join(['', '', ''])")),
        ("doubled by replace", doubled("ns.x|replace('a', 'aa')")),
        ("doubled by str.replace", doubled("ns.x.replace('', 'aa')")),
        ("doubled by indent", doubled("(ns.x ~ '\\n')|indent(1000000)")),
        ("doubled by tojson", doubled("[ns.x, ns.x]|tojson")),
        ("doubled by tojson's indent", "{{ [[[[[1]]]]]|tojson(indent=100000000) }}".to_owned()),
        ("doubled straight", "{% set x = 'ab' %}".to_owned() + &repeated("{% set x = x ~ x %}", 60) + "{{ x|length }}"),
        ("doubled by set", "{% set x = 'ab' %}".to_owned() + &repeated("{% set x %}{{ x }}{{ x }}{% endset %}", 60)),
        ("doubled by macros", "{% macro m(x, n) %}{{ m(x ~ x, n - 1) if n else x }}{% endmacro %}{{ m('ab', 60) }}".to_owned()),
        ("repeated text", "{{ 'a' * 10**9 }}".to_owned()),
        ("repeated list", "{{ ([0] * 10**9)|length }}{{ [0] * 10**8 }}".to_owned()),
        ("long range", "{% for i in range(10**9) %}{% endfor %}".to_owned()),
        ("nested loops", "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}".to_owned()),
        ("nested loops writing", "{% for a in range(9999) %}{% for b in range(9999) %}aaaaaaaaaaaaaaaa{% endfor %}{% endfor %}".to_owned()),
        ("list doubled by +", nested("ns.x + [1] + ns.x", "{{ ns.x }}")),
        ("list doubled by *", nested("(ns.x + [1]) * 2", "{{ ns.x|length }}")),
        ("list of lists printed", nested("[ns.x, ns.x]", "{{ ns.x }}")),
        ("list of lists joined", nested("[ns.x, ns.x]", "{{ ns.x ~ '' }}")),
        ("list of lists as text", nested("[ns.x, ns.x]", "{{ ns.x|string }}")),
        ("list of lists compared", nested("[ns.x, ns.x]", "{{ ns.x == [ns.x, ns.x] }}{{ [ns.x]|unique|list }}")),
        ("list of lists as key", nested("{'a': ns.x, 'b': ns.x}", "{{ {ns.x: 1} }}")),
        ("list of lists sought", nested("[ns.x, ns.x]", "{{ ns.x in [[ns.x, ns.x], 1] }}")),
        ("list of lists as JSON", nested("[ns.x, ns.x]", "{{ ns.x|tojson }}")),
        ("list of lists raised", nested("[ns.x, ns.x]", "{{ raise_exception(ns.x) }}")),
        ("list of lists straight", "{% set x = [] %}".to_owned() + &repeated("{% set x = [x, x] %}", 60) + "{{ x }}"),
        ("list of lists by macros", "{% macro m(x, n) %}{{ m([x, x], n - 1) if n else x }}{% endmacro %}{{ m([], 60) }}".to_owned()),
        ("list of lists by map", nested("[ns.x, ns.x]|map('string')|list + [ns.x]", "{{ ns.x }}")),
        ("list of lists by dict", nested("dict(a=ns.x, b=ns.x)", "{{ ns.x }}")),
        ("list of lists by namespace", nested("namespace(a=ns.x, b=ns.x)", "{{ ns.x }}")),
        ("deep list", "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}".to_owned()),
        ("deep list straight", "{% set x = [] %}".to_owned() + &repeated("{% set x = [x] %}", 10_000)),
        ("deep iterators", "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = ns.x|reverse|map('int') %}{% endfor %}{{ ns.x|list }}".to_owned()),
        ("deep sums", "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = ns.x + [1] %}{% endfor %}{{ ns.x }}".to_owned()),
        ("namespace in itself", "{% set ns = namespace(x=1) %}{% set ns.x = ns %}{{ ns }}".to_owned()),
        ("namespace in its list", "{% set ns = namespace(x=1) %}{% set ns.x = [ns] %}{{ ns }}".to_owned()),
        ("namespace in its items", "{% set ns = namespace(x=1) %}{% set y = ns.items() %}{% set ns.x = y %}{{ ns.x|list }}".to_owned()),
        ("macros in macros", "{% set ns = namespace(m=1) %}{% for i in range(9999) %}{% set m = ns.m %}{% macro f() %}{{ m() }}{% endmacro %}{% set ns.m = f %}{% endfor %}{{ ns.m() }}".to_owned()),
        ("macro without end", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned()),
        ("two macros without end", "{% macro f() %}{{ g() }}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}".to_owned()),
        ("loop without end", "{% set ns = namespace(x=[1]) %}{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned()),
        ("long chain of +", format!("{{{{ 1{} }}}}", repeated("+1", 100_000))),
        ("long chain of parts", format!("{{{{ x{} }}}}", repeated(".y", 100_000))),
        ("long chain of filters", format!("{{{{ x{} }}}}", repeated("|string", 100_000))),
        ("long chain of calls", format!("{{{{ x{} }}}}", repeated("()", 100_000))),
        ("chain of + within the limit", format!("{{{{ 1{} }}}}", repeated("+x", 190))),
        ("chain of parts within the limit", format!("{{{{ x{} }}}}", repeated(".y", 190))),
        ("chain of items within the limit", format!("{{{{ x{} }}}}", repeated("[0]", 130))),
        ("chain of filters within the limit", format!("{{{{ x{} }}}}", repeated("|string", 190))),
        ("chain of calls within the limit", format!("{{{{ x{} }}}}", repeated("()", 190))),
        ("chain of ifs within the limit", format!("{{{{ 1 {} }}}}", repeated("if 0 else 1 ", 95))),
        ("chain of tests within the limit", format!("{{{{ 1 {} }}}}", repeated("is string ", 190))),
        ("chain of ands within the limit", format!("{{{{ 1 {} }}}}", repeated("and 1 ", 190))),
        ("chain of elifs within the limit", "{% if 0 %}".to_owned() + &repeated("{% elif 0 %}", 199) + "{% endif %}"),
        ("negations within the limit", format!("{{{{ {}1 }}}}", repeated("not ", 390))),
        ("signs within the limit", format!("{{{{ {}1 }}}}", repeated("- ", 390))),
        ("powers within the limit", format!("{{{{ 1{} }}}}", repeated("**1", 190))),
        ("brackets within the limit", format!("{{{{ {}1{} }}}}", repeated("[", 100), repeated("]", 100))),
        ("loop by another name", "{% set loop = 'a' * 10**6 %}{% for i in range(10**4) %}{{ loop.find('b') }}{% endfor %}".to_owned()),
        ("deep parentheses", format!("{{{{ {}1{} }}}}", repeated("(", 100_000), repeated(")", 100_000))),
        ("deep brackets", format!("{{{{ {}1{} }}}}", repeated("[", 400), repeated("]", 400))),
        ("deep negation", format!("{{{{ {}1 }}}}", repeated("not ", 100_000))),
        ("deep conditions", repeated("{% if 1 %}", 20_000)),
        ("deep loops", repeated("{% for x in y %}", 10_000) + &repeated("{% endfor %}", 10_000)),
        ("long elif", "{% if 0 %}".to_owned() + &repeated("{% elif 0 %}", 20_000) + "{% endif %}"),
        ("deep inline ifs", format!("{{{{ 1 {} }}}}", repeated("if 0 else 1 ", 30_000))),
        ("padding by %", "{{ '%1000000000d' % 1 }}".to_owned()),
        ("padding by format", "{{ '%1000000000d'|format(1) }}".to_owned()),
        ("padding by str.format", "{{ '{:>1000000000}'.format(1) }}".to_owned()),
        ("padding by batch", "{{ [1]|batch(10**9, 'x')|list }}".to_owned()),
        ("padding by slice", "{{ [1]|slice(10**9, 'x')|list }}".to_owned()),
        ("padding by indent", "{{ 'x'|indent(10**12, true) }}".to_owned()),
        ("padding by center", "{{ 'x'|center(10**9) }}{{ 'x'.center(10**9) }}".to_owned()),
        ("padding by round", "{{ 1.5|round(10**9) }}".to_owned()),
        ("large power", "{{ 10 ** 10 ** 10 }}".to_owned()),
        ("large dates", "{% for i in range(10**4) %}{{ strftime_now('%c' * 99999) }}{% endfor %}".to_owned()),
        ("search in long texts", "{% set x = 'a' * 10**6 %}{% for i in range(10**4) %}{{ x.find('b') }}{% endfor %}".to_owned()),
        ("count in long texts", "{% set x = 'a' * 10**6 %}{% for i in range(10**4) %}{{ x.count('b') }}{% endfor %}".to_owned()),
        ("compared long texts", "{% set x = 'a' * 10**6 %}{% set y = x ~ '' %}{% for i in range(10**4) %}{{ x == y }}{% endfor %}".to_owned()),
        ("long texts in lists", "{% set x = ['a' * 10**6] %}{% set y = ['a' * 10**6] %}{% for i in range(10**4) %}{{ x == y }}{{ x < y }}{% endfor %}".to_owned()),
        ("long texts kept", "{% set ns = namespace(x=[]) %}{% for i in range(10**4) %}{% set ns.x = ns.x + ['a' * 10**5] %}{% endfor %}".to_owned()),
        ("reversed long texts", "{% set x = 'a' * 10**6 %}{% for i in range(10**4) %}{{ x[::-1]|length }}{{ x[5:6] }}{% endfor %}".to_owned()),
        ("split long texts", "{% set x = 'a,' * 10**6 %}{% for i in range(10**4) %}{{ x.split(',')|length }}{{ x|list|length }}{% endfor %}".to_owned()),
        ("sorted long lists", "{% for i in range(10**4) %}{{ range(10**4)|sort|first }}{% endfor %}".to_owned()),
        ("grouped long lists", "{% for i in range(10**4) %}{{ range(10**4)|map('string')|groupby('x')|list|length }}{% endfor %}".to_owned()),
        ("stripped of many", "{% set x = 'a' * 10**5 %}{% for i in range(10**4) %}{{ x.strip(x ~ 'b') }}{% endfor %}".to_owned()),
        ("replaced by nothing", "{% set x = 'a' * 10**6 %}{% for i in range(10**4) %}{{ x.replace('a', '')|length }}{% endfor %}".to_owned()),
        ("messages many times", "{% for i in range(10**4) %}{{ messages|tojson|length }}{{ messages|string|length }}{% endfor %}".to_owned()),
        ("debug", "{{ debug() }}{{ messages|pprint }}".to_owned()),
        ("long source", repeated("a{{ 1 }}", 100_000)),
    ]
}

#[test]
fn expensive_templates_are_stopped() {
    let content = "x".repeat(100_000);
    for (name, source) in expensive_templates() {
        let start = Instant::now();
        let outcome = render(&source, &content);
        let time = start.elapsed();
        println!(
            "{name}: {:.3} s, {:?}",
            time.as_secs_f64(),
            outcome.as_ref().map(String::len).map_err(ToString::to_string)
        );
        assert!(time < Duration::from_secs(10), "{name} took {time:?}");
        let written = outcome.map_or(0, |prompt| prompt.len());
        assert!(written < 1 << 20, "{name} wrote {written} bytes");
    }
    if let Some(peak) = peak_memory() {
        println!("peak: {} MiB", peak >> 20);
        assert!(peak < 256 << 20, "rendering took {} MiB", peak >> 20);
    }
}

/// The peak memory of this process, where the system has it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}
