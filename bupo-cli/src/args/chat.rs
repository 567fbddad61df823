//! Options that render texts by a chat template.

use clap::Args;

#[derive(Debug, Args)]
pub struct ChatArgs {
    /// Render the text by the model's chat template, as a message of the user
    #[arg(long)]
    chat: bool,
    /// A system message before it; implies --chat
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// enable_thinking of the chat template; implies --chat [default: the template's]
    #[arg(long, value_name = "true|false")]
    pub thinking: Option<bool>,
}

impl ChatArgs {
    /// Whether texts are messages.
    pub fn is_active(&self) -> bool {
        self.chat || self.system.is_some() || self.thinking.is_some()
    }
}
