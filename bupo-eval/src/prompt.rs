//! Prompts of problems: chat template, tokenizer, length limit.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use bupo_data::chat::{ChatTemplate, RenderOptions};
use bupo_data::{Message, Problem, Prompt};
use bupo_models::{ModelFiles, TextTokenizer};
use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::question::Question;

/// The built-in template for models without one.
const PLAIN: &str = "plain";

/// The chat template that renders prompts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ChatChoice {
    /// The model's own. Without one, `plain` for chat messages, and no template for plain text.
    #[default]
    Auto,
    /// No template: plain text as it is, message contents joined by newlines.
    None,
    /// The built-in template for base models.
    Plain,
    /// A Jinja file.
    File(PathBuf),
}

/// What happens to a prompt beyond the length limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlong {
    /// The problem is dropped.
    #[default]
    Drop,
    /// Its first tokens are removed.
    TruncateLeft,
}

/// Questions made from problems, and how many prompts were over-long.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prepared {
    /// In the problems' order.
    pub questions: Vec<Question>,
    /// Problems dropped for their length.
    pub dropped: usize,
    /// Prompts truncated on the left.
    pub truncated: usize,
}

/// Renders prompts for one model.
#[derive(Debug)]
pub struct PromptRenderer {
    tokenizer: TextTokenizer,
    /// The template for chat messages.
    chat: Option<Template>,
    /// The template for plain text, which becomes a user message.
    text: Option<Template>,
    thinking: Option<bool>,
}

#[derive(Debug, Clone)]
struct Template {
    template: ChatTemplate,
    /// Whether the template writes the special tokens at the start of a prompt; otherwise the tokenizer adds its own.
    special_tokens: bool,
}

impl PromptRenderer {
    /// A renderer for the model of `files`. `thinking` is `enable_thinking` of the template.
    ///
    /// # Errors
    /// If the tokenizer or the template cannot be read.
    pub fn new(files: &ModelFiles, choice: &ChatChoice, thinking: Option<bool>) -> Result<Self, EvalError> {
        let tokenizer = TextTokenizer::load(files)?;
        let plain = || Ok::<_, EvalError>(Template { template: ChatTemplate::named(PLAIN)?, special_tokens: false });
        let (chat, text) = match choice {
            ChatChoice::None => (None, None),
            ChatChoice::Plain => (Some(plain()?), Some(plain()?)),
            ChatChoice::File(path) => {
                let source = fs::read_to_string(path).map_err(EvalError::io("read", path))?;
                let template = template(files, Some(source))?;
                (template.clone(), template)
            }
            ChatChoice::Auto => match template(files, optional(files, "chat_template.jinja")?)? {
                Some(own) => (Some(own.clone()), Some(own)),
                None => (Some(plain()?), None),
            },
        };
        Ok(Self { tokenizer, chat, text, thinking })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// The text of a prompt and its tokens.
    ///
    /// # Errors
    /// If the template fails on the messages, or the text cannot be encoded.
    pub fn render(&self, prompt: &Prompt) -> Result<(String, Vec<u32>), EvalError> {
        let options = RenderOptions { add_generation_prompt: true, enable_thinking: self.thinking };
        let (text, special_tokens) = match (prompt, &self.chat, &self.text) {
            (Prompt::Chat(messages), Some(chat), _) => (chat.template.render(messages, &options)?, chat.special_tokens),
            (Prompt::Text(text), _, Some(chat)) => {
                let message = Message { role: "user".into(), content: text.clone() };
                (chat.template.render(&[message], &options)?, chat.special_tokens)
            }
            (Prompt::Text(text), ..) => (text.clone(), false),
            (Prompt::Chat(messages), None, _) => {
                let contents: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
                (contents.join("\n"), false)
            }
        };
        let encode = if special_tokens { TextTokenizer::encode_rendered } else { TextTokenizer::encode };
        let tokens = encode(&self.tokenizer, &text)?;
        Ok((text, tokens))
    }

    /// Makes problems into questions; `overlong` says what happens to prompts of more than `limit` tokens.
    ///
    /// # Errors
    /// If a prompt cannot be rendered or encoded, or has no tokens; the message names the problem, from 1.
    pub fn prepare(&self, problems: Vec<Problem>, limit: usize, overlong: Overlong) -> Result<Prepared, EvalError> {
        let mut prepared = Prepared::default();
        for (index, problem) in problems.into_iter().enumerate() {
            let (prompt, mut tokens) = self.render(&problem.prompt).map_err(|error| {
                EvalError::Config(format!("the prompt of problem {} cannot be rendered: {error}", index + 1))
            })?;
            if tokens.is_empty() {
                return Err(EvalError::Config(format!(
                    "the prompt of problem {} has no tokens; a model needs at least one",
                    index + 1
                )));
            }
            if tokens.len() > limit {
                if overlong == Overlong::Drop {
                    prepared.dropped += 1;
                    continue;
                }
                tokens.drain(..tokens.len() - limit);
                prepared.truncated += 1;
            }
            let Problem { answer, data_source, .. } = problem;
            prepared.questions.push(Question { prompt, tokens, answer, data_source });
        }
        Ok(prepared)
    }
}

/// The template `source`, or else the one in the tokenizer's config, with the special tokens of that config.
fn template(files: &ModelFiles, source: Option<String>) -> Result<Option<Template>, EvalError> {
    let config = optional(files, "tokenizer_config.json")?.unwrap_or_else(|| "{}".into());
    let template = ChatTemplate::from_tokenizer_config(&config, source.as_deref())?;
    Ok(template.map(|template| Template { template, special_tokens: true }))
}

fn optional(files: &ModelFiles, name: &str) -> Result<Option<String>, EvalError> {
    Ok(if files.has(name) { Some(files.text(name)?) } else { None })
}

impl FromStr for ChatChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.to_string().into())
    }
}

impl From<String> for ChatChoice {
    fn from(text: String) -> Self {
        match text.as_str() {
            "auto" => Self::Auto,
            "none" => Self::None,
            PLAIN => Self::Plain,
            _ => Self::File(text.into()),
        }
    }
}

impl From<ChatChoice> for String {
    fn from(choice: ChatChoice) -> Self {
        choice.to_string()
    }
}

impl fmt::Display for ChatChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Plain => f.write_str(PLAIN),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}
