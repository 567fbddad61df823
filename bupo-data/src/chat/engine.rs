//! Compiles and renders templates with minijinja, and sets the features and limits.

use std::borrow::Cow;

use minijinja::machinery::{self, CodeGenerator, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

use super::{bounds, date::TemplateDate, error::ChatError, guard, options::RenderOptions, python};
use crate::message::Message;

/// The longest template, in bytes; those in use have up to about 20 KiB.
const SOURCE_LIMIT: usize = 256 << 10;

/// The largest number of tokens in one `{{ }}` or `{% %}`; templates in use have up to about 50. The compiler recurses for
/// every operator of a chain.
const TAG_LIMIT: usize = 400;

/// The largest number of `elif`s. The parser recurses for each.
const ELIF_LIMIT: usize = 200;

/// The longest prompt, in bytes, beyond the size of the messages.
const OUTPUT_LIMIT: usize = 4 << 20;

/// The largest value, in bytes, beyond the size of the messages.
const VALUE_LIMIT: usize = 4 << 20;

/// The number of steps of a template, and the additional ones for each message. A step also allows 64 bytes.
const FUEL: u64 = 250_000;
const FUEL_PER_MESSAGE: u64 = 2_000;

/// The largest depth of nested loops, conditions and macros at run time.
const RECURSION_LIMIT: usize = 100;

/// The name of templates in the engine's errors.
const NAME: &str = "chat template";

/// The function that writes today's date.
pub(super) const STRFTIME_NOW: &str = "strftime_now";

/// A template with its variables.
pub(super) struct Template<'a> {
    /// The source, normalized.
    pub(super) source: &'a str,
    pub(super) bos: Option<&'a str>,
    pub(super) eos: Option<&'a str>,
    pub(super) date: TemplateDate,
}

/// The source with line feeds as line breaks, and with `generation` blocks, which mark the assistant's text for training,
/// as blocks without effect.
pub(super) fn normalize(source: &str) -> String {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    for (tag, block) in [("endgeneration", "endwith"), ("generation", "with")] {
        source = replace_tag(&source, tag, block);
    }
    source
}

/// Checks that a template compiles.
pub(super) fn check(source: &str) -> Result<(), ChatError> {
    compile(source, |_| Ok(()))
}

/// Whether a template that was checked mentions a name.
pub(super) fn mentions(source: &str, name: &str) -> bool {
    let tokens = syntax().into_iter().flat_map(|syntax| machinery::tokenize(source, false, syntax));
    tokens.flatten().any(|(token, _)| matches!(token, Token::Ident(ident) if ident == name))
}

/// Renders a template.
pub(super) fn render(
    template: &Template<'_>,
    messages: &[Message],
    options: RenderOptions,
) -> Result<String, ChatError> {
    let texts = messages.iter().map(|message| message.role.len() + message.content.len()).sum::<usize>();
    let size = texts.saturating_add(messages.len().saturating_mul(512));
    let mut environment = environment(template, VALUE_LIMIT.saturating_add(size));
    let fuel = FUEL + FUEL_PER_MESSAGE * messages.len() as u64 + texts as u64;
    environment.set_fuel(Some(fuel));
    let context = context(template, messages, options);
    compile(template.source, |tree| {
        let mut generator = CodeGenerator::new(NAME, template.source);
        generator.compile_stmt(tree);
        let (instructions, blocks) = generator.finish();
        let mut prompt = String::new();
        let mut out = machinery::make_string_output(&mut prompt);
        machinery::eval(&environment, &instructions, context, &blocks, &mut out, AutoEscape::None)
            .map_err(|error| failure(&error))?;
        match prompt.len() > OUTPUT_LIMIT.saturating_add(texts) {
            true => Err(ChatError::Limit("its prompt is too long".to_owned())),
            false => Ok(prompt),
        }
    })
}

/// Parses a template, inserts the size limit, and passes the syntax tree to `then`.
fn compile<T>(
    source: &str,
    then: impl for<'a> FnOnce(&machinery::ast::Stmt<'a>) -> Result<T, ChatError>,
) -> Result<T, ChatError> {
    if source.len() > SOURCE_LIMIT {
        return Err(ChatError::TooLarge(format!("it is longer than {SOURCE_LIMIT} bytes")));
    }
    let syntax = syntax().map_err(|error| ChatError::Syntax(error.to_string()))?;
    check_tags(source, &syntax)?;
    let tree = machinery::parse(source, NAME, syntax).map_err(|error| syntax_error(&error))?;
    let tree = guard::template(&tree).map_err(|reason| ChatError::Syntax(reason.to_owned()))?;
    then(&tree)
}

fn check_tags(source: &str, syntax: &SyntaxConfig) -> Result<(), ChatError> {
    let (mut tokens, mut elifs) = (0, 0);
    for token in machinery::tokenize(source, false, syntax.clone()) {
        let (token, span) = token.map_err(|error| syntax_error(&error))?;
        match token {
            Token::VariableStart | Token::BlockStart => tokens = 0,
            Token::Ident("elif") => elifs += 1,
            _ => tokens += 1,
        }
        let refused = |what: String| Err(ChatError::TooLarge(format!("line {} has {what}", span.start_line)));
        if tokens > TAG_LIMIT {
            return refused(format!("more than {TAG_LIMIT} tokens in one tag"));
        }
        if elifs > ELIF_LIMIT {
            return refused(format!("the {}th `elif`", ELIF_LIMIT + 1));
        }
    }
    Ok(())
}

fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

/// The variables of a template. Tools and documents are `none`, as in transformers.
fn context(template: &Template<'_>, messages: &[Message], options: RenderOptions) -> Value {
    let mut variables = vec![
        ("messages", messages.iter().map(message_value).collect()),
        ("tools", Value::from(())),
        ("documents", Value::from(())),
        ("add_generation_prompt", Value::from(options.add_generation_prompt)),
    ];
    variables.extend(template.bos.map(|bos| ("bos_token", Value::from(bos))));
    variables.extend(template.eos.map(|eos| ("eos_token", Value::from(eos))));
    variables.extend(options.enable_thinking.map(|thinking| ("enable_thinking", Value::from(thinking))));
    Value::from_pairs(variables)
}

fn message_value(message: &Message) -> Value {
    Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
}

fn environment(template: &Template<'_>, value_limit: usize) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.set_unknown_method_callback(method);
    // Not in Jinja, or able to allocate much memory and of no use in a prompt.
    for name in ["chain", "zip", "pprint", "lines", "split", "format", "slice", "batch"] {
        environment.remove_filter(name);
    }
    environment.remove_global("debug");
    environment.add_filter(guard::BOUND, bounds::filter(value_limit));
    environment.add_filter("tojson", python::tojson);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_function("raise_exception", raise_exception);
    let date = template.date;
    environment
        .add_function(STRFTIME_NOW, move |state: &State, format: Cow<'_, str>| strftime_now(state, date, &format));
    environment
}

/// Python's methods of strings, lists and dictionaries.
fn method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        // Widths in the format allow any amount of padding.
        "format" => Err(Error::from(ErrorKind::UnknownMethod)),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// As in Python's Jinja, an undefined value is iterable, and `none` is not.
fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || matches!(value.kind(), ValueKind::Iterable)
}

fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

fn raise_exception(message: Option<Value>, _: Kwargs) -> Result<Value, Error> {
    let text = message.map(|message| message.to_string()).unwrap_or_default();
    Err(Error::new(ErrorKind::CannotDeserialize, text))
}

fn strftime_now(state: &State, date: TemplateDate, format: &str) -> Result<String, Error> {
    // A directive of two bytes writes up to about thirty.
    state.consume_fuel(format.len() as u64)?;
    Ok(python::strftime(date.time(), format))
}

/// Renames a block tag.
fn replace_tag(source: &str, from: &str, to: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        rest = tag;
        let word = tag.trim_start_matches(['-', '+']).trim_start();
        let Some(after) = word.strip_prefix(from) else { continue };
        let end = after.trim_start();
        if ["%}", "-%}", "+%}"].iter().any(|mark| end.starts_with(mark)) {
            out.push_str(&tag[..tag.len() - word.len()]);
            out.push_str(to);
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

fn syntax_error(error: &Error) -> ChatError {
    ChatError::Syntax(located(error))
}

fn failure(error: &Error) -> ChatError {
    match error.kind() {
        ErrorKind::CannotDeserialize => ChatError::Raised(error.detail().unwrap_or_default().to_owned()),
        ErrorKind::OutOfFuel => {
            ChatError::Limit(error.detail().unwrap_or("it exceeds the limit of steps and of text").to_owned())
        }
        _ => ChatError::Render(located(error)),
    }
}

fn located(error: &Error) -> String {
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("line {line}: {reason}"),
        None => reason,
    }
}
