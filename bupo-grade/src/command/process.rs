//! One process of a scorer, and the threads that keep its pipes from filling.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::TimeLimits;
use crate::{Graded, Item};

const MAX_LINE: u64 = 1 << 20;
/// How much of what the program wrote is quoted in a failure.
const MAX_QUOTE: usize = 400;
const MAX_SCORE: f64 = 1e6;

/// Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub(super) struct Process {
    leader: Leader,
    questions: Sender<String>,
    lines: Receiver<io::Result<Vec<u8>>>,
    stderr_end: Receiver<Vec<u8>>,
    answered: bool,
}

impl Process {
    pub(super) fn start(command: &str) -> io::Result<Self> {
        let mut words = command.split_whitespace();
        let program = words.next().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that what the program starts ends with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut leader = Leader { child: command.spawn()?, status: None };

        // The threads end when their pipe or channel closes. They are not waited for: a pipe that a program outside
        // of the process group holds open must hold up nobody.
        let (questions, to_write) = mpsc::channel();
        let (read, lines) = mpsc::sync_channel(1);
        let (tail, stderr_end) = mpsc::sync_channel(1);
        if let (Some(stdin), Some(stdout), Some(stderr)) =
            (leader.child.stdin.take(), leader.child.stdout.take(), leader.child.stderr.take())
        {
            thread::Builder::new().spawn(move || write_questions(stdin, &to_write))?;
            thread::Builder::new().spawn(move || read_lines(stdout, &read))?;
            thread::Builder::new().spawn(move || read_stderr(stderr, &tail))?;
        }
        Ok(Self { leader, questions, lines, stderr_end, answered: false })
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    /// The program's answer, or why it is of no use any more.
    pub(super) fn ask(&mut self, item: &Item<'_>, limits: TimeLimits) -> Result<Graded, String> {
        if let Ok(unasked) = self.lines.try_recv() {
            let line = unasked.map_or_else(|error| error.to_string(), |line| quoted(&line));
            return Err(format!("wrote a line that nothing asked for: {line}"));
        }
        let question = serde_json::to_string(item).map_err(|error| error.to_string())?;
        // Fails where the program has closed its input, and then no answer says so.
        let _ = self.questions.send(question + "\n");
        let limit = limits.answer + if self.answered { Duration::ZERO } else { limits.start };
        let line = match self.lines.recv_timeout(limit) {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => return Err(format!("its answer cannot be read: {error}")),
            Err(RecvTimeoutError::Disconnected) => return Err("ended, or closed its output, without an answer".into()),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = limit.as_secs_f64();
                return Err(format!("no answer within {seconds} s (does it flush each line it writes?)"));
            }
        };
        let graded = parsed(&line)?;
        self.answered = true;
        Ok(graded)
    }

    /// Ends the process and completes the report of why.
    pub(super) fn stop(mut self, reason: &str) -> String {
        let ended = matches!(self.lines.try_recv(), Err(TryRecvError::Disconnected));
        let status = self.leader.kill();
        let stderr = self.stderr_end.recv_timeout(Duration::from_millis(500)).unwrap_or_default();
        let mut report = reason.to_owned();
        if let (true, Ok(status)) = (ended, status) {
            report += &format!(" ({status})");
        }
        if !stderr.trim_ascii().is_empty() {
            report += &format!("; its standard error ends with: {}", quoted(&stderr));
        }
        report
    }
}

/// The first process of a process group. Dropping it kills the group.
#[derive(Debug)]
struct Leader {
    child: Child,
    status: Option<ExitStatus>,
}

impl Leader {
    /// How the process ended: by itself, or now.
    fn kill(&mut self) -> io::Result<ExitStatus> {
        // The group's number is its own until the wait, and a process that has already ended keeps its status.
        if let Some(status) = self.status {
            return Ok(status);
        }
        #[cfg(unix)]
        let killed = kill_process_group(Pid::from_child(&self.child), Signal::KILL).map_err(io::Error::from);
        #[cfg(not(unix))]
        let killed = self.child.kill();
        // Waiting for a process that cannot be killed might never end.
        killed?;
        Ok(*self.status.insert(self.child.wait()?))
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn write_questions(mut stdin: ChildStdin, questions: &Receiver<String>) {
    for question in questions {
        if stdin.write_all(question.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_lines(stdout: ChildStdout, lines: &SyncSender<io::Result<Vec<u8>>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let read = stdout.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        let line = match read {
            Ok(0) => return,
            Ok(_) if line.len() as u64 == MAX_LINE => Err(io::Error::other("the line is longer than 1 MiB")),
            Ok(_) => Ok(line),
            Err(error) => Err(error),
        };
        let last = line.is_err();
        if lines.send(line).is_err() || last {
            return;
        }
    }
}

fn read_stderr(mut stderr: ChildStderr, end: &SyncSender<Vec<u8>>) {
    let mut tail = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut chunk) {
        tail.extend_from_slice(&chunk[..count]);
        tail.drain(..tail.len().saturating_sub(MAX_QUOTE));
    }
    let _ = end.send(tail);
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Score(f64),
    Object { score: f64, extracted: Option<String> },
}

fn parsed(line: &[u8]) -> Result<Graded, String> {
    let graded = match serde_json::from_slice(line) {
        Ok(Answer::Score(score)) => Graded { score, extracted: None },
        Ok(Answer::Object { score, extracted }) => Graded { score, extracted },
        Err(_) => return Err(format!("its answer is neither a number nor {{\"score\": number}}: {}", quoted(line))),
    };
    if graded.score.abs() > MAX_SCORE || !graded.score.is_finite() {
        return Err(format!("its score {} is not between -1,000,000 and 1,000,000", graded.score));
    }
    Ok(graded)
}

/// The start of what a program wrote, on one line and without what would steer a terminal.
fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_QUOTE)]);
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("`{line}`")
}
