//! A turn of a chat, as a prompt holds it and a chat template is given it.

use serde::{Deserialize, Serialize};

/// One turn of a chat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant` in most chat templates.
    pub role: String,
    /// What is said.
    pub content: String,
}
