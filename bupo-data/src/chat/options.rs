//! What a prompt is rendered with besides its messages.

/// Options of rendering a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Whether the prompt ends where the model's turn begins.
    pub add_generation_prompt: bool,
    /// The value of the template's variable `enable_thinking`; undefined where this is `None`.
    pub enable_thinking: Option<bool>,
}
