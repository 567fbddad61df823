//! Where responses go as they are generated.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use bupo_models::{GenerationProgress, ModelError, Response, StopStrings, TextStream, TextTokenizer};
use bupo_runs::JsonLinesWriter;
use serde_json::{Value, json};

use super::prompts::GivenPrompt;
use crate::args::GenerateArgs;
use crate::error::CliError;
use crate::screen::StepBar;

pub struct Output<'a> {
    prompts: &'a [GivenPrompt],
    tokenizer: Option<&'a TextTokenizer>,
    stop: Option<StopStrings<'a>>,
    place: Place<'a>,
    complete: usize,
}

enum Place<'a> {
    /// All at the end, by the caller.
    Collected,
    /// The text of a single response as it comes.
    Stream(TextStream<'a>),
    /// Complete responses in the order of their prompts; those before `printed` are on the screen.
    Screen { responses: Vec<Option<Response>>, printed: usize, spaced: bool },
    /// Complete responses as JSON lines. The writer is there once the file is open.
    Lines { path: &'a Path, force: bool, writer: Option<(JsonLinesWriter, StepBar)> },
}

impl<'a> Output<'a> {
    pub fn new(
        args: &'a GenerateArgs,
        prompts: &'a [GivenPrompt],
        tokenizer: Option<&'a TextTokenizer>,
        stop: Option<StopStrings<'a>>,
    ) -> Self {
        let place = match (&args.out, tokenizer) {
            (Some(path), _) => Place::Lines { path, force: args.force, writer: None },
            _ if args.json.is_some() || !args.compare.is_empty() => Place::Collected,
            (None, Some(tokenizer)) if prompts.len() == 1 => Place::Stream(TextStream::new(tokenizer, stop)),
            _ => Place::Screen { responses: vec![None; prompts.len()], printed: 0, spaced: args.prompts.is_some() },
        };
        Self { prompts, tokenizer, stop, place, complete: 0 }
    }

    /// Called once the model is loaded, before the first token.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn open(&mut self) -> Result<(), CliError> {
        match &mut self.place {
            Place::Lines { path, force, writer } => {
                if *force && path.exists() {
                    fs::remove_file(*path).map_err(CliError::io("overwrite", path))?;
                }
                *writer = Some((JsonLinesWriter::create(path)?, StepBar::new("responses", self.prompts.len())));
            }
            Place::Stream(_) => out!("{}", self.prompts[0].shown),
            Place::Collected | Place::Screen { .. } => {}
        }
        Ok(())
    }

    /// # Errors
    /// If the file cannot be written, or a response cannot be decoded.
    pub fn progress(&mut self, progress: GenerationProgress<'_>) -> Result<(), CliError> {
        self.complete += usize::from(progress.done);
        match &mut self.place {
            Place::Stream(stream) => {
                let piece = stream.next(&progress.response.tokens, progress.done)?;
                out!("{piece}");
                io::stdout().flush().ok();
            }
            Place::Screen { responses, .. } if progress.done => {
                responses[progress.prompt] = Some(progress.response.clone());
                self.print_next(false)?;
            }
            Place::Lines { writer: Some((writer, bar)), .. } if progress.done => {
                let prompt = &self.prompts[progress.prompt];
                writer.append(&line(prompt, progress.response, self.tokenizer, self.stop)?)?;
                bar.advance(1);
            }
            _ => {}
        }
        Ok(())
    }

    /// # Errors
    /// If generation was interrupted and nothing is written, or a response cannot be decoded.
    pub fn finish(&mut self, interrupted: bool) -> Result<(), CliError> {
        self.print_next(true)?;
        let missing = interrupted && self.complete < self.prompts.len();
        match &mut self.place {
            Place::Stream(_) => outln!(),
            Place::Collected if interrupted => {
                return Err(CliError::Message("stopped before all responses were complete; nothing is written".into()));
            }
            Place::Lines { path, writer, .. } => {
                *writer = None;
                outln!("responses    {}", path.display());
            }
            _ => {}
        }
        if missing && !matches!(self.place, Place::Stream(_)) {
            eprintln!("stopped: {} of {} responses are complete", self.complete, self.prompts.len());
        }
        Ok(())
    }

    /// Prints the complete responses up to the first that is not, or all of them.
    fn print_next(&mut self, all: bool) -> Result<(), CliError> {
        let Place::Screen { responses, printed, spaced } = &mut self.place else { return Ok(()) };
        while *printed < responses.len() && (all || responses[*printed].is_some()) {
            if let Some(response) = &responses[*printed] {
                if *spaced && *printed > 0 {
                    outln!();
                }
                match self.tokenizer {
                    Some(tokenizer) => {
                        outln!("{}{}", self.prompts[*printed].shown, text(response, tokenizer, self.stop)?);
                    }
                    None => outln!("{:?}", response.tokens),
                }
            }
            *printed += 1;
        }
        Ok(())
    }
}

/// The line of a response. Without a tokenizer, prompt and response are token ids.
fn line(
    prompt: &GivenPrompt,
    response: &Response,
    tokenizer: Option<&TextTokenizer>,
    stop: Option<StopStrings<'_>>,
) -> Result<Value, ModelError> {
    let (prompt_text, response_text) = match tokenizer {
        Some(tokenizer) => {
            let given = prompt.text.clone().map_or_else(|| tokenizer.decode(&prompt.tokens), Ok)?;
            (json!(given), json!(text(response, tokenizer, stop)?))
        }
        None => (json!(prompt.tokens), json!(response.tokens)),
    };
    Ok(json!({
        "prompt": prompt_text,
        "response": response_text,
        "prompt_tokens": prompt.tokens,
        "response_tokens": response.tokens,
        "log_probs": response.log_probs,
        "finished": response.finished,
    }))
}

/// The text of a response, up to a stop string.
pub fn text(
    response: &Response,
    tokenizer: &TextTokenizer,
    stop: Option<StopStrings<'_>>,
) -> Result<String, ModelError> {
    let text = tokenizer.decode(&response.tokens)?;
    Ok(stop.map_or(text.as_str(), |stop| stop.truncate(&text)).to_string())
}
