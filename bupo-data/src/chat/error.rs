//! Errors of chat templates.

/// Errors of reading and rendering chat templates. Each says what is wrong and how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The tokenizer's config is not valid.
    #[error("tokenizer_config.json: {0}")]
    Config(String),
    /// The template is not valid Jinja.
    #[error("the chat template does not parse: {0}; fix the template")]
    Syntax(String),
    /// The template is longer or more nested than a template may be.
    #[error("the chat template is refused: {0}; use a simpler one")]
    TooLarge(String),
    /// The template called `raise_exception`.
    #[error("the chat template refuses these messages: {0}")]
    Raised(String),
    /// The template failed while it was rendered.
    #[error("the chat template failed: {0}; fix the template, or give it messages of the kind it supports")]
    Render(String),
    /// The template takes more time or memory than the limits allow.
    #[error("the chat template was stopped: {0}; use a template that only formats its messages")]
    Limit(String),
    /// There is no template of this name.
    #[error("there is no chat template named `{0}`: the only one is `plain`")]
    Unknown(String),
    /// The text is not a date.
    #[error("`{0}` is not a date: write YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS")]
    Date(String),
}
