//! Any text as a chat template is a prompt or an error, in bounded time and memory.
#![no_main]

use bupo_data::Message;
use bupo_data::chat::{ChatTemplate, RenderOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let _ = ChatTemplate::from_tokenizer_config(&text, None);
    let Ok(template) = ChatTemplate::new(&text, Some("<s>"), Some("</s>")) else { return };
    let _ = template.uses_date();
    let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let messages = [
        message("system", "Put the answer in a box."),
        message("user", "What is 1+1?"),
        message("assistant", "<think>\nhm\n</think>\n\n2"),
        message("user", "And 2+2?"),
    ];
    for enable_thinking in [None, Some(false)] {
        let _ = template.render(&messages, &RenderOptions { add_generation_prompt: true, enable_thinking });
    }
});
