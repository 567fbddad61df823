//! Problems made into prompts: a chat template, a tokenizer, a length limit.

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

/// The template of a base model that has none.
const PLAIN: &str = "plain";

/// Which chat template makes prompts of problems.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ChatChoice {
    /// The model's own, or `plain` for chat messages where it has none; plain text then stays as it is.
    #[default]
    Auto,
    /// None: the text as it is, messages one below the other.
    None,
    /// The built-in template for base models.
    Plain,
    /// A Jinja file.
    File(PathBuf),
}

/// What becomes of a prompt beyond the length limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlong {
    /// It is left out.
    #[default]
    Drop,
    /// Its first tokens are left out.
    TruncateLeft,
}

/// Problems made into questions, and how many did not fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prepared {
    /// In the problems' order.
    pub questions: Vec<Question>,
    /// Left out for their length.
    pub dropped: usize,
    /// Cut on the left.
    pub truncated: usize,
}

/// Makes prompts of problems for one model.
#[derive(Debug)]
pub struct PromptRenderer {
    tokenizer: TextTokenizer,
    /// For chat messages.
    chat: Option<Template>,
    /// For plain text, which becomes a user's message.
    text: Option<Template>,
    thinking: Option<bool>,
}

#[derive(Debug, Clone)]
struct Template {
    template: ChatTemplate,
    /// Whether it writes the special tokens that begin a prompt; otherwise the tokenizer adds its own.
    special_tokens: bool,
}

impl PromptRenderer {
    /// For the model of `files`. `thinking` is what templates know as `enable_thinking`.
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
    /// If the template refuses the messages, or the text cannot be encoded.
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

    /// Makes questions of problems, those of more than `limit` tokens by the rule `overlong`.
    ///
    /// # Errors
    /// If a prompt cannot be rendered or encoded, or has no tokens; the message names the problem, from 1.
    pub fn prepare(&self, problems: Vec<Problem>, limit: usize, overlong: Overlong) -> Result<Prepared, EvalError> {
        let mut prepared = Prepared::default();
        for (index, problem) in problems.into_iter().enumerate() {
            let (prompt, mut tokens) = self.render(&problem.prompt).map_err(|error| {
                EvalError::Config(format!("the prompt of problem {} cannot be made: {error}", index + 1))
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

/// A template of that text, or else the one in the tokenizer's config, with the special tokens named there.
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
