//! Chat templates: the Jinja programs that come with models and render messages as a prompt.
//!
//! A template is not trusted: it has no access to files or the network, and its time and memory are bounded (see
//! [`ChatTemplate::render`]).

mod bounds;
mod config;
mod date;
mod engine;
mod error;
mod guard;
mod options;
mod python;

pub use self::{date::TemplateDate, error::ChatError, options::RenderOptions};
use crate::message::Message;

/// The text of every message on lines of its own.
const PLAIN: &str = "{{ bos_token }}{% for message in messages %}{{ message.content }}\n{% endfor %}";

/// A chat template, ready to render.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    bos: Option<String>,
    eos: Option<String>,
    date: TemplateDate,
}

impl ChatTemplate {
    /// A template of this Jinja source, with the values of `bos_token` and `eos_token`. Its date is now; see
    /// [`ChatTemplate::with_date`].
    ///
    /// # Errors
    ///
    /// If the source is not valid Jinja, or longer or more nested than a template may be.
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self, ChatError> {
        let source = engine::normalize(source);
        engine::check(&source)?;
        Ok(Self { source, bos: bos.map(str::to_owned), eos: eos.map(str::to_owned), date: TemplateDate::now() })
    }

    /// The template and the special tokens of the text of a `tokenizer_config.json`; the template of the text of a
    /// `chat_template.jinja` comes first where there is one. `None` where neither has a template, as with most base
    /// models.
    ///
    /// # Errors
    ///
    /// If the config is not valid, it has templates but no default one, or [`ChatTemplate::new`] fails.
    pub fn from_tokenizer_config(json: &str, separate_jinja: Option<&str>) -> Result<Option<Self>, ChatError> {
        let config = config::parse(json)?;
        let source = separate_jinja.map(str::to_owned).or(config.template);
        source.map(|source| Self::new(&source, config.bos.as_deref(), config.eos.as_deref())).transpose()
    }

    /// A built-in template, for models that come without one.
    ///
    /// The only one is `plain`: the text of every message, each followed by a line break, without roles. No paper
    /// prescribes it. It writes no special tokens: let the tokenizer add those it wants.
    ///
    /// # Errors
    ///
    /// If there is no template of this name.
    pub fn named(name: &str) -> Result<Self, ChatError> {
        match name {
            "plain" => Self::new(PLAIN, None, None),
            _ => Err(ChatError::Unknown(name.to_owned())),
        }
    }

    /// The same template with another date. A template that writes today's date writes this one, so a run that keeps
    /// it renders the same prompts on every day.
    #[must_use]
    pub fn with_date(self, date: TemplateDate) -> Self {
        Self { date, ..self }
    }

    /// The date that the template writes as today's: that of its construction, unless another was set.
    pub fn date(&self) -> TemplateDate {
        self.date
    }

    /// Whether prompts may depend on the date: whether the template mentions `strftime_now`.
    pub fn uses_date(&self) -> bool {
        engine::mentions(&self.source, engine::STRFTIME_NOW)
    }

    /// Renders the prompt of these messages.
    ///
    /// Whatever the template, this takes at most 64 MiB and a fixed multiple of the messages' size in memory, and time in
    /// proportion; a template that takes more is stopped.
    ///
    /// # Errors
    ///
    /// If the template refuses the messages, fails, or exceeds a limit.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String, ChatError> {
        let template = engine::Template {
            source: &self.source,
            bos: self.bos.as_deref(),
            eos: self.eos.as_deref(),
            date: self.date,
        };
        engine::render(&template, messages, *options)
    }
}
