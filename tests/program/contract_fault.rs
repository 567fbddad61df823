//! What a server can do wrong.

use bupo_models::Response;

/// What goes wrong with a request for responses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// An error status.
    Status(u16),
    /// The connection ends without an answer.
    Drop,
    /// Half an answer.
    Cut,
    /// The answer comes after this many milliseconds.
    Slow(u64),
    NotJson,
    /// One response less than asked for.
    Short,
    Empty,
    TooLong,
    /// A token id outside the vocabulary.
    Id,
    /// A log-prob that is no number.
    Nan,
    /// One log-prob less than tokens.
    FewLogProbs,
    Abort,
    /// A length limit before the one asked for.
    Context,
    /// An end-of-sequence token of another model.
    OtherEnd,
    /// The server is gone for this many milliseconds, and starts again with the weights it had at first.
    Restart(u64),
    /// Log-probs of another temperature.
    RawLogProbs,
}

/// Changes responses as a fault says.
pub fn spoil(responses: &mut Vec<Response>, fault: Option<Fault>) {
    match fault {
        Some(Fault::Short) => drop(responses.pop()),
        Some(Fault::Empty) => responses[0] = Response::default(),
        Some(Fault::TooLong) => {
            responses[0].tokens.extend([5; 1000]);
            responses[0].log_probs.extend([-1.0; 1000]);
        }
        Some(Fault::Id) => responses[0].tokens[0] = 1_000_000,
        // NaN is null in JSON.
        Some(Fault::Nan) => responses[0].log_probs[0] = f32::NAN,
        Some(Fault::FewLogProbs) => drop(responses[0].log_probs.pop()),
        Some(Fault::Context | Fault::OtherEnd) => {
            responses[0].tokens = vec![5];
            responses[0].log_probs = vec![-1.0];
        }
        Some(Fault::RawLogProbs) => responses.iter_mut().for_each(|response| {
            response.log_probs.iter_mut().for_each(|log_prob| *log_prob -= 0.5);
        }),
        _ => {}
    }
}
