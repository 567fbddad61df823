//! Texts of the command line as a model's input, rendered by its chat template if that is asked for.

use bupo_data::{Message, Prompt};
use bupo_eval::{ChatChoice, PromptRenderer, has_chat_template};
use bupo_models::pretrained::{load_config, load_eos_token_ids};
use bupo_models::{ModelFiles, TextTokenizer};

use crate::args::ChatArgs;
use crate::error::CliError;

/// How a model gets texts.
pub struct TextInput<'a> {
    args: &'a ChatArgs,
    files: &'a ModelFiles,
    /// `None` if texts go in as they are.
    renderer: Option<PromptRenderer>,
}

/// A text and its tokens.
pub struct Encoded {
    pub text: String,
    pub tokens: Vec<u32>,
}

impl<'a> TextInput<'a> {
    /// # Errors
    /// If texts are messages and the model's template or tokenizer cannot be read.
    pub fn open(args: &'a ChatArgs, files: &'a ModelFiles) -> Result<Self, CliError> {
        let renderer = || PromptRenderer::new(files, &ChatChoice::Auto, args.thinking);
        Ok(Self { args, files, renderer: args.is_active().then(renderer).transpose()? })
    }

    /// Encodes texts, each as a message of the user or as it is.
    ///
    /// # Errors
    /// If the template fails, or a text cannot be encoded.
    pub fn encode(&self, tokenizer: &TextTokenizer, texts: &[String]) -> Result<Vec<Encoded>, CliError> {
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let encoded = |text: &String| match &self.renderer {
            None => Ok(Encoded { text: text.clone(), tokens: tokenizer.encode(text)? }),
            Some(renderer) => {
                let system = self.args.system.iter().map(|system| message("system", system));
                let messages = system.chain([message("user", text)]).collect();
                let (text, tokens) = renderer.render(&Prompt::Chat(messages))?;
                Ok(Encoded { text, tokens })
            }
        };
        texts.iter().map(encoded).collect()
    }

    /// Says on standard error what a reader may not expect of the input: that a chat model gets no chat template, that there
    /// is none, or that it does not end a response.
    ///
    /// # Errors
    /// If the model's files cannot be read.
    pub fn warn(&self) -> Result<(), CliError> {
        let Some(renderer) = &self.renderer else {
            // A template that cannot be read is of no concern here.
            if has_chat_template(self.files).unwrap_or(false) {
                eprintln!("the text goes in as it is; --chat applies the model's chat template");
            }
            return Ok(());
        };
        if !has_chat_template(self.files)? {
            eprintln!("warning: the model has no chat template; the texts of the messages go in, each on a line");
        }
        let warning = renderer.end_of_turn_warning(&load_eos_token_ids(self.files, &load_config(self.files)?)?);
        warning.iter().for_each(|warning| eprintln!("warning: {warning}"));
        Ok(())
    }
}
