//! The chat template and the special tokens of a tokenizer's config.

use serde::Deserialize;

use super::error::ChatError;

/// The name of the template to use where a config has several.
const DEFAULT: &str = "default";

/// The parts of a tokenizer's config that a chat template needs.
pub(super) struct Config {
    /// The template, if there is one.
    pub(super) template: Option<String>,
    /// The beginning-of-sequence token.
    pub(super) bos: Option<String>,
    /// The end-of-sequence token.
    pub(super) eos: Option<String>,
}

/// Reads a `tokenizer_config.json`.
pub(super) fn parse(json: &str) -> Result<Config, ChatError> {
    let file: File = serde_json::from_str(json)
        .map_err(|error| ChatError::Config(format!("{error}; correct it, or fetch the model again")))?;
    let template = match file.chat_template {
        None => None,
        Some(Template::One(source)) => Some(source),
        Some(Template::Many(templates)) => Some(default_of(templates)?),
    };
    Ok(Config { template, bos: file.bos_token.map(Token::text), eos: file.eos_token.map(Token::text) })
}

fn default_of(templates: Vec<Named>) -> Result<String, ChatError> {
    let names = templates.iter().map(|template| format!("`{}`", template.name)).collect::<Vec<_>>().join(", ");
    match templates.into_iter().find(|template| template.name == DEFAULT) {
        Some(template) => Ok(template.template),
        None => Err(ChatError::Config(format!(
            "`chat_template` has no template named `{DEFAULT}`, only [{names}]; name one of them `{DEFAULT}`"
        ))),
    }
}

#[derive(Deserialize)]
struct File {
    chat_template: Option<Template>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`chat_template` must be a string, or a list of {\"name\": ..., \"template\": ...}")]
enum Template {
    One(String),
    Many(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a special token must be a string, or an object with a string `content`")]
enum Token {
    Text(String),
    Object { content: String },
}

impl Token {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}
