//! Prompts of problems: chat template, tokenizer, length limit.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use bupo_data::chat::{ChatError, ChatTemplate, RenderOptions, TemplateDate};
use bupo_data::{Message, Problem, Prompt};
use bupo_models::{ModelError, ModelFiles, TextTokenizer};
use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::answers::AnswerCounts;
use crate::question::Question;

/// The built-in template for models without one.
const PLAIN: &str = "plain";
/// The file of a model's chat template, if it is not in the tokenizer's config.
const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// The origin of a model's template.
const OWN: &str = "the model's";

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
    /// Reference answers extracted from solutions.
    pub answers: AnswerCounts,
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
    /// Where it is from, as text.
    origin: String,
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
        let plain = || {
            Ok::<_, EvalError>(Template {
                template: ChatTemplate::named(PLAIN)?,
                origin: PLAIN.into(),
                special_tokens: false,
            })
        };
        let (chat, text) = match choice {
            ChatChoice::None => (None, None),
            ChatChoice::Plain => (Some(plain()?), Some(plain()?)),
            ChatChoice::File(path) => {
                let source = fs::read_to_string(path).map_err(EvalError::io("read", path))?;
                let template = template(files, Some(source), path.display().to_string())?;
                (template.clone(), template)
            }
            ChatChoice::Auto => match template(files, optional(files, CHAT_TEMPLATE)?, OWN.into())? {
                Some(own) => (Some(own.clone()), Some(own)),
                None => (Some(plain()?), None),
            },
        };
        Ok(Self { tokenizer, chat, text, thinking })
    }

    /// The date that the template writes as today's; `None` if its prompts do not depend on a date.
    pub fn date(&self) -> Option<TemplateDate> {
        let mut templates = self.chat.iter().chain(&self.text).map(|template| &template.template);
        templates.find(|template| template.uses_date()).map(ChatTemplate::date)
    }

    /// The same renderer with another date for the template.
    #[must_use]
    pub fn with_date(self, date: TemplateDate) -> Self {
        let dated = |template: Option<Template>| {
            template.map(|template| Template { template: template.template.with_date(date), ..template })
        };
        Self { chat: dated(self.chat), text: dated(self.text), ..self }
    }

    /// A warning if the model's chat template ends an assistant turn with tokens none of which is an end-of-sequence id: a
    /// model that follows the template then never ends a response, and every response may be truncated. `None` if one is, or if
    /// that cannot be determined: with built-in templates, or a template that does not render an assistant turn with an end.
    pub fn end_of_turn_warning(&self, eos_token_ids: &[u32]) -> Option<String> {
        const CONTENT: &str = "bupo-assistant-turn";
        let chat = self.chat.as_ref().filter(|chat| chat.special_tokens)?;
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let options = RenderOptions { add_generation_prompt: false, enable_thinking: self.thinking };
        let rendered =
            chat.template.render(&[message("user", "1+1=?"), message("assistant", CONTENT)], &options).ok()?;
        let end = rendered.rsplit_once(CONTENT)?.1.trim();
        let tokens = self.tokenizer.encode_rendered(end).ok().filter(|tokens| !tokens.is_empty())?;
        if tokens.iter().any(|token| eos_token_ids.contains(token)) {
            return None;
        }
        Some(format!(
            "the chat template ends an assistant turn with {end:?} (token ids {tokens:?}), but the model's end-of-sequence ids \
             are {eos_token_ids:?}: every response may be truncated; add the id that ends a turn to eos_token_id in the model's \
             generation_config.json, or choose another data.chat_template"
        ))
    }

    /// The template of plain text: `the model's`, `plain`, the path of a file, or `none`.
    pub fn text_template(&self) -> &str {
        self.text.as_ref().map_or("none", |template| &template.origin)
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
                    "the prompt of problem {} has no tokens; give it a text, or remove the problem",
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

/// Whether a model has a chat template of its own.
///
/// # Errors
/// If it cannot be read.
pub fn has_chat_template(files: &ModelFiles) -> Result<bool, EvalError> {
    Ok(template(files, optional(files, CHAT_TEMPLATE)?, OWN.into())?.is_some())
}

/// The template `source`, or else the one in the tokenizer's config, with the special tokens of that config.
fn template(files: &ModelFiles, source: Option<String>, origin: String) -> Result<Option<Template>, EvalError> {
    let name = "tokenizer_config.json";
    let config = optional(files, name)?.unwrap_or_else(|| "{}".into());
    let template = ChatTemplate::from_tokenizer_config(&config, source.as_deref()).map_err(|error| match error {
        // With the folder, of which there may be several.
        ChatError::Config(reason) => EvalError::Model(ModelError::Json { path: files.path(name), reason }),
        other => EvalError::Chat(other),
    })?;
    Ok(template.map(|template| Template { template, origin, special_tokens: true }))
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

#[cfg(test)]
mod tests {
    use bupo_models::tokenizer::byte_tokenizer_json;
    use serde_json::json;

    use super::*;

    const END: &str = "<|endoftext|>";

    /// A renderer of a model with this chat template, and the id of [`END`].
    fn renderer(chat_template: &str) -> Result<(PromptRenderer, u32), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let (tokenizer, _, end) = byte_tokenizer_json(END)?;
        let config = json!({"eos_token": END, "chat_template": chat_template});
        fs::write(folder.path().join("tokenizer.json"), tokenizer)?;
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string())?;
        fs::write(folder.path().join("config.json"), "{}")?;
        let files = ModelFiles::folder(folder.path())?;
        Ok((PromptRenderer::new(&files, &ChatChoice::Auto, None)?, end))
    }

    #[test]
    fn a_turn_that_ends_without_an_end_of_sequence_id_is_warned_about() -> Result<(), Box<dyn std::error::Error>> {
        let turns =
            |end: &str| format!("{{% for m in messages %}}{{{{ m.role }}}}: {{{{ m.content }}}}{end}{{% endfor %}}");
        let (ends, end) = renderer(&turns("<|endoftext|>\n"))?;
        assert_eq!(ends.end_of_turn_warning(&[end]), None);
        let warning = ends.end_of_turn_warning(&[end + 1]).unwrap_or_default();
        assert!(warning.contains(END) && warning.contains("eos_token_id"), "{warning}");
        let (other, end) = renderer(&turns("<|im_end|>"))?;
        assert!(other.end_of_turn_warning(&[end]).is_some());
        // Nothing to compare.
        let (open, end) = renderer(&turns("\n"))?;
        assert_eq!(open.end_of_turn_warning(&[end]), None);
        Ok(())
    }

    #[test]
    fn a_date_is_only_of_templates_that_write_it() -> Result<(), Box<dyn std::error::Error>> {
        let (undated, _) = renderer("{{ messages[0].content }}")?;
        assert_eq!(undated.date(), None);
        let (dated, _) = renderer("{{ strftime_now('%Y-%m-%d') }} {{ messages[0].content }}")?;
        let date: TemplateDate = "2024-02-29".parse()?;
        let dated = dated.with_date(date);
        assert_eq!(dated.date(), Some(date));
        let prompt = Prompt::Chat(vec![Message { role: "user".into(), content: "hi".into() }]);
        assert_eq!(dated.render(&prompt)?.0, "2024-02-29 hi");
        Ok(())
    }
}
