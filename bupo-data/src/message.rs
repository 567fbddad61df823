//! Messages of a chat.

use serde::{Deserialize, Serialize};

/// A message of a chat: the input of a chat template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The role: `system`, `user` or `assistant` in most chat templates.
    pub role: String,
    /// The text.
    pub content: String,
}
