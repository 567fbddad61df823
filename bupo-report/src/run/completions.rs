//! Responses to the same held-out problems before and after training.

use bupo_eval::Completion;
use bupo_rl::KeptCompletion;

use super::Run;
use crate::page::{Part, Role};

/// Problems shown per run.
const SHOWN: usize = 4;
/// Characters shown per text.
const MAX_CHARACTERS: usize = 800;
/// What chat templates write before a role, between the role and its text, and after the text.
const MARKS: [(&str, &str, &str); 2] =
    [("<|im_start|>", "\n", "<|im_end|>"), ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")];

pub(super) fn completions(runs: &[Run]) -> Vec<Part> {
    runs.iter().flat_map(of_run).collect()
}

fn of_run(run: &Run) -> Vec<Part> {
    let held_out = || run.completions.iter().filter(|line| line.held_out);
    let part = |before: &KeptCompletion| {
        let prompt = &before.completion.prompt;
        let after = held_out().filter(|line| line.step > 0).rfind(|line| line.completion.prompt == *prompt);
        let response = |when: String, completion: &Completion| Role {
            name: format!("{}: response {when}", run.name),
            remark: grade(completion),
            text: shortened(&completion.response),
        };
        let responses = std::iter::once(response("before training".into(), &before.completion))
            .chain(after.map(|line| response(format!("after step {}", line.step), &line.completion)));
        Part::Texts(prompt_roles(prompt).into_iter().chain(responses).collect())
    };
    held_out().filter(|line| line.step == 0).take(SHOWN).map(part).collect()
}

/// The score with its reason.
fn grade(completion: &Completion) -> String {
    let extracted = match &completion.extracted {
        Some(extracted) => format!("extracted answer {}", shortened(extracted)),
        None => "no answer extracted".into(),
    };
    let truncated = if completion.finished { "" } else { ", truncated" };
    format!("score {}: {extracted}, reference answer {}{truncated}", completion.score, shortened(&completion.answer))
}

/// The messages of a prompt that a chat template rendered; the whole prompt if it has no known marks.
fn prompt_roles(prompt: &str) -> Vec<Role> {
    let role =
        |name: &str, text: &str| Role { name: name.trim().into(), remark: String::new(), text: shortened(text.trim()) };
    let Some((start, middle, end)) = MARKS.into_iter().find(|(start, ..)| prompt.contains(start)) else {
        return vec![role("prompt", prompt)];
    };
    let messages = prompt.split(start).skip(1).filter_map(|message| {
        let (name, text) = message.split_once(middle)?;
        Some(role(name, text.split(end).next().unwrap_or(text)))
    });
    // The last message is the beginning of the response.
    messages.filter(|role| !role.text.is_empty()).collect()
}

/// A text, or the beginning and the end of a long one.
fn shortened(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= MAX_CHARACTERS {
        return text.to_string();
    }
    let half = MAX_CHARACTERS / 2;
    let part = |characters: &[char]| characters.iter().collect::<String>();
    format!("{} \u{2026} {}", part(&characters[..half]), part(&characters[characters.len() - half..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_split_into_the_roles_of_their_chat_template() {
        let roles = |prompt: &str| -> Vec<(String, String)> {
            prompt_roles(prompt).into_iter().map(|role| (role.name, role.text)).collect()
        };
        let expected = [("system".to_string(), "Be brief.".to_string()), ("user".into(), "1+1=?".into())];
        let chat_ml =
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1=?<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(roles(chat_ml), expected);
        let llama = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
                     <|start_header_id|>user<|end_header_id|>\n\n1+1=?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
        assert_eq!(roles(llama), expected);
        assert_eq!(roles("1+1="), [("prompt".into(), "1+1=".into())]);
    }

    #[test]
    fn a_score_has_its_reason() {
        let completion = |extracted: Option<&str>, finished| Completion {
            prompt: String::new(),
            response: String::new(),
            answer: "32".into(),
            data_source: String::new(),
            score: 0.0,
            extracted: extracted.map(String::from),
            tokens: 1,
            finished,
        };
        assert_eq!(grade(&completion(Some("34"), true)), "score 0: extracted answer 34, reference answer 32");
        assert_eq!(grade(&completion(None, false)), "score 0: no answer extracted, reference answer 32, truncated");
    }
}
