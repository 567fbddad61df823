//! Texts of the command line as a model's input, rendered by its chat template if that is asked for.

use bupo_data::{Message, Prompt};
use bupo_eval::{ChatChoice, PromptRenderer, has_chat_template};
use bupo_models::pretrained::{load_config, load_eos_token_ids};
use bupo_models::{ModelFiles, TextTokenizer};

use crate::args::ChatArgs;
use crate::error::CliError;

/// A text and its tokens.
pub struct Encoded {
    pub text: String,
    pub tokens: Vec<u32>,
}

/// Encodes texts, each as a message of the user or as it is.
///
/// # Errors
/// If the template fails, or a text cannot be encoded.
pub fn encode(
    args: &ChatArgs,
    files: &ModelFiles,
    tokenizer: &TextTokenizer,
    texts: &[String],
) -> Result<Vec<Encoded>, CliError> {
    if !args.is_active() {
        let encoded = |text: &String| Ok(Encoded { text: text.clone(), tokens: tokenizer.encode(text)? });
        return texts.iter().map(encoded).collect();
    }
    let renderer = PromptRenderer::new(files, &ChatChoice::Auto, args.thinking)?;
    let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let rendered = |text: &String| {
        let system = args.system.iter().map(|system| message("system", system));
        let messages: Vec<Message> = system.chain([message("user", text)]).collect();
        let (text, tokens) = renderer.render(&Prompt::Chat(messages))?;
        Ok(Encoded { text, tokens })
    };
    texts.iter().map(rendered).collect()
}

/// Says on standard error what a reader may not expect of the input: that a chat model gets no chat template, that there is
/// none, or that it does not end a response.
///
/// # Errors
/// If the model's files cannot be read.
pub fn warn_of_template(args: &ChatArgs, files: &ModelFiles) -> Result<(), CliError> {
    if !args.is_active() {
        // A template that cannot be read is of no concern here.
        if has_chat_template(files).unwrap_or(false) {
            eprintln!("the text goes in as it is; --chat applies the model's chat template");
        }
        return Ok(());
    }
    if !has_chat_template(files)? {
        eprintln!("warning: the model has no chat template; the texts of the messages go in, each on a line");
    }
    let eos_token_ids = load_eos_token_ids(files, &load_config(files)?)?;
    let warning = PromptRenderer::new(files, &ChatChoice::Auto, args.thinking)?.end_of_turn_warning(&eos_token_ids);
    warning.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(())
}
