//! Options that read problems from data files and render them as prompts.

use bupo_eval::{ChatChoice, Overlong, PromptOptions};
use bupo_rl::DataConfig;
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct PromptArgs {
    /// Column of the prompts, chat messages or text; a.b is field b of column a [default: the first of the usual names]
    #[arg(long, value_name = "NAME")]
    pub prompt_column: Option<String>,
    /// Column of the reference answers
    #[arg(long, value_name = "NAME")]
    pub answer_column: Option<String>,
    /// Column of the data source
    #[arg(long, value_name = "NAME")]
    pub source_column: Option<String>,
    /// Maximum prompt length in tokens
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub max_prompt_tokens: usize,
    /// Treatment of longer prompts
    #[arg(long, value_name = "RULE", default_value = "drop")]
    pub overlong: OverlongArg,
    /// Chat template: auto (the model's), none, plain, or a Jinja file
    #[arg(long, value_name = "TEMPLATE", default_value = "auto")]
    pub chat_template: ChatChoice,
    /// enable_thinking of the chat template [default: the template's]
    #[arg(long, value_name = "true|false")]
    pub thinking: Option<bool>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OverlongArg {
    /// Drop the prompt
    Drop,
    /// Drop the prompt's first tokens
    TruncateLeft,
}

impl PromptArgs {
    /// How rows become prompts.
    pub fn options(&self) -> PromptOptions {
        self.data().prompt_options()
    }

    /// The options as settings of `[data]`.
    pub fn data(&self) -> DataConfig {
        DataConfig {
            prompt_column: self.prompt_column.clone(),
            answer_column: self.answer_column.clone(),
            source_column: self.source_column.clone(),
            max_prompt_tokens: self.max_prompt_tokens,
            overlong: match self.overlong {
                OverlongArg::Drop => Overlong::Drop,
                OverlongArg::TruncateLeft => Overlong::TruncateLeft,
            },
            chat_template: self.chat_template.clone(),
            thinking: self.thinking,
            ..DataConfig::default()
        }
    }
}
