//! One process of a scorer, and the threads that keep its pipes from filling.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::{Deserialize, Serialize};

use super::limits::TimeLimits;
use crate::item::{Graded, Item};

const MAX_LINE: u64 = 1 << 20;
/// How much of what the program wrote is quoted in a failure.
const MAX_QUOTE: usize = 400;
const MAX_SCORE: f64 = 1e6;
/// How often a process whose input was closed is asked whether it has ended.
const POLL: Duration = Duration::from_millis(5);

/// Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub(super) struct Process {
    leader: Leader,
    /// `None` once the input is closed.
    questions: Option<Sender<String>>,
    lines: Receiver<io::Result<Vec<u8>>>,
    stderr_end: Receiver<Vec<u8>>,
    answered: bool,
}

/// A valid answer, and how it was assigned to the question.
pub(super) enum Reply {
    /// By the `id` that it returned.
    Numbered(Graded),
    /// Without an `id`, as the first line of a process.
    Plain(Graded),
}

/// Why a process is of no further use.
pub(super) struct Problem {
    pub(super) reason: String,
    /// Whether all that the process wrote for earlier questions has been read.
    pub(super) earlier_is_complete: bool,
    /// Whether the line that was read may belong to an earlier question, so that nothing is known of this one.
    pub(super) ask_again: bool,
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
        // of the process group holds open must not block the grader.
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
        Ok(Self { leader, questions: Some(questions), lines, stderr_end, answered: false })
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    /// The answer to `item`. After a [`Reply::Plain`], only [`finish`](Self::finish) tells whether it is the only line.
    pub(super) fn ask(&mut self, item: &Item<'_>, id: u64, limits: TimeLimits) -> Result<Reply, Problem> {
        self.send(item, id)?;
        let line = self.line(limits)?;
        let answer = Answer::parse(&line);
        if self.answered && !answer.as_ref().is_ok_and(|answer| answer.id == Some(id)) {
            let reason = format!("wrote a line that does not return the id {id}: {}", quoted(&line));
            return Err(Problem { reason, earlier_is_complete: false, ask_again: true });
        }
        let answer = answer.map_err(Problem::fatal)?;
        let numbered = answer.id.is_some();
        let graded = answer.graded(id).map_err(Problem::fatal)?;
        self.answered = true;
        Ok(if numbered { Reply::Numbered(graded) } else { Reply::Plain(graded) })
    }

    /// The answer of a new process to its only item.
    pub(super) fn ask_only(&mut self, item: &Item<'_>, id: u64, limits: TimeLimits) -> Result<Graded, Problem> {
        self.send(item, id)?;
        self.questions = None;
        let line = self.line(limits)?;
        let graded = Answer::parse(&line).and_then(|answer| answer.graded(id)).map_err(Problem::fatal)?;
        self.answered = true;
        self.finish(limits).map(|()| graded)
    }

    /// Closes the input and reads the output to its end, which must be empty.
    pub(super) fn finish(&mut self, limits: TimeLimits) -> Result<(), Problem> {
        self.questions = None;
        let deadline = Instant::now() + limits.answer;
        loop {
            match self.lines.recv_timeout(POLL) {
                Ok(Ok(line)) => {
                    let reason = format!("wrote more than one line for one item: {}", quoted(&line));
                    return Err(Problem::fatal(reason));
                }
                Ok(Err(error)) => return Err(Problem::fatal(format!("its output cannot be read: {error}"))),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    let seconds = limits.answer.as_secs_f64();
                    let reason = format!("did not end within {seconds} s of the end of its input");
                    return Err(Problem::fatal(reason));
                }
                // What the process started may hold its output open; once that is killed, the rest can be read.
                Err(RecvTimeoutError::Timeout) if self.leader.has_ended() => drop(self.leader.kill()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
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

    fn send(&self, item: &Item<'_>, id: u64) -> Result<(), Problem> {
        let question =
            serde_json::to_string(&Question { id, item }).map_err(|error| Problem::fatal(error.to_string()))?;
        if let Some(questions) = &self.questions {
            // Fails where the program has closed its input; then the missing answer is reported.
            let _ = questions.send(question + "\n");
        }
        Ok(())
    }

    fn line(&self, limits: TimeLimits) -> Result<Vec<u8>, Problem> {
        let limit = limits.answer + if self.answered { Duration::ZERO } else { limits.start };
        match self.lines.recv_timeout(limit) {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(error)) => Err(Problem::unfinished(format!("its answer cannot be read: {error}"))),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Problem::fatal("ended, or closed its output, without an answer".into()))
            }
            Err(RecvTimeoutError::Timeout) => {
                let seconds = limit.as_secs_f64();
                let reason = format!("no answer within {seconds} s (does it flush each line it writes?)");
                Err(Problem::unfinished(reason))
            }
        }
    }
}

impl Problem {
    /// With this question; the output for earlier ones is complete.
    fn fatal(reason: String) -> Self {
        Self { reason, earlier_is_complete: true, ask_again: false }
    }

    /// With this question; the output for earlier ones may go on.
    fn unfinished(reason: String) -> Self {
        Self { reason, earlier_is_complete: false, ask_again: false }
    }
}

/// The first process of a process group. Dropping it kills the group.
#[derive(Debug)]
struct Leader {
    child: Child,
    status: Option<ExitStatus>,
}

impl Leader {
    /// Whether the process has ended by itself. It is not reaped, so that its process group can still be killed.
    #[cfg(unix)]
    fn has_ended(&mut self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.status.is_some()
            || matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(Some(_)) | Err(_))
    }

    #[cfg(not(unix))]
    fn has_ended(&mut self) -> bool {
        self.status.is_some() || !matches!(self.child.try_wait(), Ok(None))
    }

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

#[derive(Serialize)]
struct Question<'a> {
    id: u64,
    #[serde(flatten)]
    item: &'a Item<'a>,
}

/// One line of a scorer, with the `id` where it has one.
struct Answer {
    id: Option<u64>,
    graded: Graded,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Score(f64),
    Object { id: Option<u64>, score: f64, extracted: Option<String> },
}

impl Answer {
    fn parse(line: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(line) {
            Ok(Line::Score(score)) => Ok(Self { id: None, graded: Graded { score, extracted: None } }),
            Ok(Line::Object { id, score, extracted }) => Ok(Self { id, graded: Graded { score, extracted } }),
            Err(_) => {
                Err(format!("its answer is neither a number nor {{\"id\": id, \"score\": number}}: {}", quoted(line)))
            }
        }
    }

    fn graded(self, asked: u64) -> Result<Graded, String> {
        if let Some(id) = self.id.filter(|id| *id != asked) {
            return Err(format!("its answer has the id {id}, but the item has {asked}"));
        }
        if self.graded.score.abs() > MAX_SCORE || !self.graded.score.is_finite() {
            return Err(format!("its score {} is not between -1,000,000 and 1,000,000", self.graded.score));
        }
        Ok(self.graded)
    }
}

/// The start of what a program wrote, on one line and without what would steer a terminal.
fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_QUOTE)]);
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("`{line}`")
}
