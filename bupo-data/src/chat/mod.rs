//! Chat templates: the Jinja programs by which a model's makers say how messages become a prompt.
//!
//! A template comes from wherever the model came from, so it is not trusted: it can neither read nor write anything,
//! and its time and memory are bounded (see [`ChatTemplate::render`]).

mod bounds;
mod config;
mod engine;
mod error;
mod guard;
mod python;

pub use error::ChatError;

use crate::Message;

/// The templates [`ChatTemplate::named`] knows.
const NAMES: [&str; 1] = ["plain"];

/// Every message's text on lines of its own, and nothing else.
const PLAIN: &str = "{{ bos_token }}{% for message in messages %}{{ message.content }}\n{% endfor %}";

/// How a prompt is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Whether the prompt ends where the model's turn begins.
    pub add_generation_prompt: bool,
    /// What the template is told of `enable_thinking`; told nothing where this is `None`.
    pub enable_thinking: Option<bool>,
}

/// A chat template, ready to render.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    bos: Option<String>,
    eos: Option<String>,
    date: Option<chrono::NaiveDateTime>,
}

impl ChatTemplate {
    /// Takes a template's text, and the special tokens it may write as `bos_token` and `eos_token`.
    ///
    /// # Errors
    ///
    /// Where the text is not Jinja, or longer or more nested than a template may be.
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self, ChatError> {
        let source = engine::normalize(source);
        engine::check(&source)?;
        Ok(Self { source, bos: bos.map(str::to_owned), eos: eos.map(str::to_owned), date: None })
    }

    /// Takes the template and the special tokens from the text of a `tokenizer_config.json`, and the template from
    /// the text of a `chat_template.jinja` where there is one. `None` where neither has a template, as with most base
    /// models.
    ///
    /// # Errors
    ///
    /// Where the config is not the JSON it must be, it has templates but no default one, or [`ChatTemplate::new`]
    /// fails.
    pub fn from_tokenizer_config(json: &str, separate_jinja: Option<&str>) -> Result<Option<Self>, ChatError> {
        let config = config::parse(json)?;
        let source = separate_jinja.map(str::to_owned).or(config.template);
        source.map(|source| Self::new(&source, config.bos.as_deref(), config.eos.as_deref())).transpose()
    }

    /// A template of this project, for models that come without one.
    ///
    /// `plain` writes the text of every message, each followed by a line break, and no roles; it is this project's own
    /// choice and of no paper. It writes no special token: have the tokenizer add those it wants.
    ///
    /// # Errors
    ///
    /// Where there is no template of this name.
    pub fn named(name: &str) -> Result<Self, ChatError> {
        match name {
            "plain" => Self::new(PLAIN, None, None),
            _ => Err(ChatError::Unknown(name.to_owned())),
        }
    }

    /// The same template with the date it is told pinned, so that it writes the same prompt on every day. Without
    /// this, a template that writes today's date is told the local one.
    ///
    /// # Errors
    ///
    /// Where the calendar has no such date.
    pub fn with_date(mut self, year: i32, month: u32, day: u32) -> Result<Self, ChatError> {
        let date = chrono::NaiveDate::from_ymd_opt(year, month, day).ok_or(ChatError::Date { year, month, day })?;
        self.date = Some(date.and_time(chrono::NaiveTime::MIN));
        Ok(self)
    }

    /// Writes the prompt.
    ///
    /// Whatever the template, the memory this takes is at most a fixed 64 MiB and a fixed multiple of the messages'
    /// size, and so is the time; a template that asks for more is stopped.
    ///
    /// # Errors
    ///
    /// Where the template refuses the messages, does what cannot be done, or is stopped.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String, ChatError> {
        engine::render(self, messages, options)
    }
}
