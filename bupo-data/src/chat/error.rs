//! What can be wrong with a chat template, or with the messages it is given.

/// Errors of reading and rendering chat templates. Each says what is wrong and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The tokenizer's config is not what it must be.
    #[error("tokenizer_config.json: {0}")]
    Config(String),
    /// The template is not the Jinja it must be.
    #[error("the chat template does not parse: {0}; mend the template")]
    Syntax(String),
    /// The template is larger or more nested than any that is written for people to use.
    #[error("the chat template is refused: {0}; write a simpler one")]
    TooLarge(String),
    /// The template raised an exception of its own.
    #[error("the chat template refuses these messages: {0}")]
    Raised(String),
    /// The template did something that Jinja cannot do.
    #[error("the chat template failed: {0}; mend the template, or give it the messages it is made for")]
    Render(String),
    /// The template takes more time or memory than a template may.
    #[error("the chat template was stopped: {0}; a template that only writes its messages never gets there")]
    Limit(String),
    /// There is no template of this name.
    #[error("there is no chat template named `{0}`: the names are {names}", names = super::NAMES.join(", "))]
    Unknown(String),
    /// The date is not one of the calendar.
    #[error("{year}-{month}-{day} is not a date of the calendar: give one that is")]
    Date {
        /// The year.
        year: i32,
        /// The month, from 1.
        month: u32,
        /// The day, from 1.
        day: u32,
    },
}
