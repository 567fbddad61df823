//! Scorers that do as they should, and scorers that do not.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use std::thread;
use std::time::Duration;

use bupo_grade::{CommandScorer, GradeError, GradedItem, Item, TimeLimits};
use common::{NUMBERED, PLAIN, Script, each_line, item, scores};
use serde_json::{Value, json};

const FORMS: [&str; 2] = [NUMBERED, PLAIN];

fn failure(item: &GradedItem) -> &str {
    item.failure.as_deref().unwrap_or("none")
}

#[test]
fn many_answers_come_in_order() {
    for form in FORMS {
        let script = Script::new(&each_line(&format!("case $answer in *7) sleep 0.02;; esac\n{form}")));
        let answers: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        let items: Vec<_> = answers.iter().map(|answer| item(answer)).collect();
        let scorer = script.scorer();
        for _ in 0..2 {
            let scored = scorer.score(&items);
            assert_eq!(scored.len(), 300);
            for (n, scored) in scored.iter().enumerate() {
                assert_eq!(scored.failure, None);
                assert_eq!(scored.graded.score, n as f64);
                assert_eq!(scored.graded.extracted, Some(format!("x{n}")));
                assert_eq!(scored.scored(), Ok(&scored.graded));
            }
        }
        assert!(scorer.score(&[]).is_empty());
    }
}

#[test]
fn a_scorer_is_told_all_of_an_item_on_one_line() {
    let script = Script::new("while read -r line; do printf '%s\\n' \"$line\" >> $1/asked; echo 0.25; done");
    let scorer = script.scorer();
    let full =
        Item { response: "a\nb \\boxed{\"\u{e9}\"}", answer: "\u{0}1", data_source: "math", prompt: Some("p\r") };
    let scored = scorer.score(&[full]);
    assert_eq!((scores(&scored), &scored[0].graded.extracted), (vec![0.25], &None));
    scorer.score(&[item("2")]);
    let asked: Vec<Value> = script.lines("asked").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        asked,
        [
            json!({"id": 1_000_000_000u64, "response": "a\nb \\boxed{\"\u{e9}\"}", "answer": "\u{0}1", "data_source": "math", "prompt": "p\r"}),
            json!({"id": 1_000_000_001u64, "response": "r", "answer": "2", "data_source": "s"}),
        ]
    );
}

#[test]
fn a_process_is_kept_from_call_to_call_if_it_returns_ids() {
    for (form, started) in [(NUMBERED, 1), (PLAIN, 5)] {
        let script = Script::new(&format!("echo $$ >> $1/started\n{}", each_line(form)));
        let scorer = script.scorer();
        for _ in 0..5 {
            assert_eq!(scores(&scorer.score(&[item("1")])), [1.0]);
        }
        assert_eq!(script.lines("started").len(), started);
    }
}

#[test]
fn a_program_that_cannot_start_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "not executable").unwrap();
    for command in ["no-such-program-anywhere -x", "/no/such/program", "", plain.to_str().unwrap()] {
        let error = CommandScorer::new(command, TimeLimits::default()).unwrap_err();
        assert!(matches!(error, GradeError::Command { .. }));
        assert!(error.to_string().contains(&format!("cannot start the scorer `{command}`")), "{error}");
    }
}

#[test]
fn a_process_that_ends_costs_one_answer_and_says_why() {
    // Each call asks twice: for its item, and once more to see the end of its answer.
    let body = format!("n=$((n + 1)); [ $n = 3 ] && {{ echo 'lost: the key' >&2; exit 7; }}\n{NUMBERED}");
    let script = Script::new(&each_line(&body));
    let scorer = script.scorer();
    for round in 0..6 {
        let scored = scorer.score(&[item("1")]);
        if round % 2 == 1 {
            assert_eq!(scores(&scored), [0.0]);
            let failure = failure(&scored[0]);
            for part in ["scorer.sh", "without an answer (exit status: 7)", "ends with: `lost: the key`"] {
                assert!(failure.contains(part), "{failure}");
            }
            assert_eq!(scored[0].scored(), Err(failure));
        } else {
            assert_eq!((scores(&scored), &scored[0].failure), (vec![1.0], &None));
        }
    }

    let items = vec![item("1"); 40];
    let scored = scorer.score(&items);
    let failed = scored.iter().filter(|scored| scored.failure.is_some()).count();
    assert!((1..=14).contains(&failed), "{failed}");
    assert_eq!(scores(&scored).iter().sum::<f64>(), (40 - failed) as f64);
}

#[test]
fn a_process_that_ends_at_the_last_check_costs_nothing() {
    let script = Script::new(&each_line(&format!("n=$((n + 1)); [ $n = 2 ] && exit 1\n{NUMBERED}")));
    let scored = script.scorer().score(&[item("4")]);
    assert_eq!((scores(&scored), &scored[0].failure), (vec![4.0], &None));
}

#[test]
fn a_slow_answer_is_given_up_and_the_next_is_asked_of_a_new_process() {
    for form in FORMS {
        let script = Script::new(&each_line(&format!("[ $answer = 9 ] && {{ sleep 600; }}\n{form}")));
        let scored = script.impatient().score(&[item("1"), item("9"), item("2"), item("9"), item("3")]);
        assert_eq!(scores(&scored), [1.0, 0.0, 2.0, 0.0, 3.0]);
        assert!(failure(&scored[1]).contains("no answer within"), "{}", failure(&scored[1]));
        assert_eq!(scored[4].failure, None);
    }
}

#[test]
fn a_slow_start_is_allowed_for() {
    let script = Script::new(&format!("sleep 1.2\n{}", each_line(PLAIN)));
    let limits = |start| TimeLimits { start: Duration::from_millis(start), answer: Duration::from_secs(1) };
    let patient = CommandScorer::new(&script.command, limits(20_000)).unwrap();
    assert_eq!(scores(&patient.score(&[item("1"), item("2"), item("3")])), [1.0, 2.0, 3.0]);
    let hasty = CommandScorer::new(&script.command, limits(0)).unwrap();
    assert_eq!(scores(&hasty.score(&[item("1")])), [0.0]);
}

#[test]
fn wrong_answers_are_reported_and_the_right_ones_stay() {
    let body = "case $answer in
        word) echo hello;; nan) echo NaN;; inf) echo 1e999;; big) echo '{\"score\": -1e7}';; text) echo '\"1\"';;
        none) echo;; null) echo '{\"score\": null}';; list) echo '[]';; two) echo 1 1;;
        steer) printf '\\033[2Jx\\377\\n';; end) exit 0;; *) echo $answer;; esac";
    let script = Script::new(&each_line(body));
    let scorer = script.scorer();
    for wrong in ["word", "nan", "inf", "big", "text", "none", "null", "list", "two", "steer", "end"] {
        let scored = scorer.score(&[item("0.5"), item(wrong), item("-2")]);
        assert_eq!(scores(&scored), [0.5, 0.0, -2.0], "{wrong}");
        assert_eq!((&scored[0].failure, &scored[2].failure), (&None, &None));
        let failure = failure(&scored[1]);
        let says = match wrong {
            "big" => "its score -10000000 is not between",
            "end" => "without an answer (exit status: 0)",
            _ => "neither a number nor {\"id\": id, \"score\": number}",
        };
        assert!(failure.contains(says), "{wrong}: {failure}");
        assert!(!failure.chars().any(char::is_control), "{failure}");
    }
}

/// A line more than its answer, whenever it comes, fails the item every time.
#[test]
fn a_second_line_for_an_item_is_an_error_every_time() {
    for form in FORMS {
        for body in [
            format!("echo 1\n{form}"),
            format!("echo debug\n{form}"),
            format!("{form}\necho 1"),
            format!("{form}\necho"),
            format!("{form}\n{form}"),
            format!("{form}\nsleep 0.05\necho 1"),
            format!("{form}\nsleep 0.05\n{form}"),
            format!("echo 1\nsleep 0.05\n{form}"),
        ] {
            let script = Script::new(&each_line(&body));
            let scorer = script.scorer();
            for count in [1, 2, 5] {
                let scored = scorer.score(&vec![item("1"); count]);
                assert!(scored.iter().all(|scored| scored.failure.is_some()), "{body}: {scored:?}");
                assert_eq!(scores(&scored), vec![0.0; count]);
            }
        }
    }
}

#[test]
fn a_second_line_for_one_item_costs_no_other_item() {
    for form in FORMS {
        for extra in ["echo 8", "sleep 0.03; echo 8", "echo; echo 8", "echo '{\"id\": 1000000001, \"score\": 8}'"] {
            for body in [
                format!("{form}\n[ $answer = 5 ] && {{ {extra}; }}"),
                format!("[ $answer = 5 ] && {{ {extra}; }}\n{form}"),
            ] {
                let script = Script::new(&each_line(&body));
                let scored = script.scorer().score(&[item("1"), item("5"), item("2"), item("3"), item("5"), item("4")]);
                let failed: Vec<bool> = scored.iter().map(|scored| scored.failure.is_some()).collect();
                assert_eq!(failed, [false, true, false, false, true, false], "{body}: {scored:?}");
                assert_eq!(scores(&scored), [1.0, 0.0, 2.0, 3.0, 0.0, 4.0], "{body}");
            }
        }
    }
}

#[test]
fn the_reported_lines_say_what_was_wrong() {
    let of = |body: &str| {
        let scored = Script::new(&each_line(body)).scorer().score(&[item("1")]);
        failure(&scored[0]).to_owned()
    };
    assert!(of("echo 0.25\necho '{\"score\": 1}'").contains("more than one line for one item: `{\"score\": 1}`"));
    assert!(of("echo debug\necho 1").contains("neither a number nor"));
    assert!(of("echo '{\"id\": 77, \"score\": 1}'").contains("has the id 77, but the item has 1000000000"));
    assert!(of(&format!("{NUMBERED}\necho 1")).contains("more than one line for one item: `1`"));
}

#[test]
fn an_answer_for_another_item_is_not_taken() {
    // Each answer is the one to the item before.
    let late = "echo \"{\\\"id\\\": $last, \\\"score\\\": 1}\"; last=$id";
    let script = Script::new(&format!("last=1000000000\n{}", each_line(late)));
    let scored = script.scorer().score(&vec![item("1"); 6]);
    // Only the very first id is right by chance.
    assert!(scored[1..].iter().all(|scored| scored.failure.is_some()), "{scored:?}");
}

#[test]
fn lines_that_nothing_asked_for_are_noticed() {
    for form in FORMS {
        let script = Script::new(&format!("echo ready\n{}", each_line(form)));
        let scored = script.scorer().score(&[item("1")]);
        assert!(scored[0].failure.is_some(), "the greeting was taken for an answer");
    }
    let script = Script::new("while :; do echo 1; done");
    let scorer = script.scorer();
    for _ in 0..5 {
        let scored = scorer.score(&[item("1")]);
        assert!(failure(&scored[0]).contains("more than one line"), "{scored:?}");
    }
}

#[test]
fn a_process_that_does_not_end_with_its_input_fails() {
    let script = Script::new(&format!("{}sleep 600", each_line(PLAIN)));
    let scored = script.impatient().score(&[item("1")]);
    assert!(failure(&scored[0]).contains("did not end within 1 s of the end of its input"), "{scored:?}");
    // What it leaves running in its process group is killed and costs nothing.
    let script = Script::new(&format!("sleep 600 &\n{}", each_line(PLAIN)));
    assert_eq!(scores(&script.scorer().score(&[item("3")])), [3.0]);
}

#[test]
fn full_pipes_hold_up_nobody() {
    let flood = "while read -r line; do head -c 1000000 /dev/zero | tr '\\0' e >&2; echo 1; done";
    let script = Script::new(flood);
    let long = "x".repeat(200_000);
    let items: Vec<_> = (0..6).map(|_| Item { response: &long, ..item("1") }).collect();
    assert_eq!(scores(&script.scorer().score(&items)), [1.0; 6]);

    let loud =
        Script::new(&format!("read -r line; {}; echo last >&2; exit 1", "head -c 1000000 /dev/zero | tr '\\0' e >&2"));
    let scored = loud.scorer().score(&[item("1")]);
    assert!(failure(&scored[0]).ends_with("eeelast`") && failure(&scored[0]).len() < 1000);

    let deaf = Script::new("sleep 600");
    let scored = deaf.impatient().score(&items[..2]);
    assert_eq!(scores(&scored), [0.0; 2]);
    assert!(failure(&scored[1]).contains("no answer within 2.5 s"), "{}", failure(&scored[1]));

    let endless = Script::new("read -r line; head -c 3000000 /dev/zero | tr '\\0' 1; sleep 600");
    let scored = endless.scorer().score(&[item("1")]);
    assert!(failure(&scored[0]).contains("longer than 1 MiB"), "{}", failure(&scored[0]));
}

#[test]
fn a_call_gives_up_on_a_program_that_never_answers_and_the_next_tries_again() {
    let script = Script::new("echo started >> $1/started; echo 'no module' >&2; exit 1");
    let scorer = script.scorer();
    let scored = scorer.score(&vec![item("1"); 100]);
    assert!(scored.iter().all(|scored| scored.failure.is_some() && scored.graded.score == 0.0));
    assert!(failure(&scored[0]).contains("no module"), "{}", failure(&scored[0]));
    assert!(failure(&scored[99]).contains("not asked"), "{}", failure(&scored[99]));
    let started = script.lines("started").len();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    assert!((3 * threads..4 * threads).contains(&started), "{started}");

    assert!(failure(&scorer.score(&[item("1")])[0]).contains("no module"));
    assert_eq!(script.lines("started").len(), started + 1);
}

#[test]
fn a_program_that_fails_now_and_then_is_not_given_up() {
    let script = Script::new(&each_line(&format!("[ $answer = 9 ] && exit 1\n{PLAIN}")));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let rounds = 8 * threads;
    let scored = script.scorer().score(&[item("9"), item("9"), item("1")].repeat(rounds));
    assert_eq!(scores(&scored), [0.0, 0.0, 1.0].repeat(rounds));
    assert!(scored.iter().all(|scored| !failure(scored).contains("not asked")));
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_running() {
    let start = "sleep 600 &\necho $! $$ >> $1/started\n";
    let idle = Script::new(&format!("{start}{}", each_line(NUMBERED)));
    let scorer = idle.scorer();
    assert_eq!(scores(&scorer.score(&[item("1")])), [1.0]);
    assert!(processes(&idle).iter().all(|process| runs(process)));
    drop(scorer);
    assert_all_end(&idle, 1);

    let hung = Script::new(&format!("{start}sleep 600"));
    let scorer = hung.impatient();
    assert_eq!(scores(&scorer.score(&[item("1")])), [0.0]);
    assert_all_end(&hung, 1);

    // The first process ends, and leaves one behind that holds its pipes open.
    let left = Script::new(&format!("{start}read -r line; exit 0"));
    let scorer = left.impatient();
    assert!(failure(&scorer.score(&[item("1")])[0]).contains("no answer within"));
    assert_all_end(&left, 1);
}

#[cfg(target_os = "linux")]
fn processes(script: &Script) -> Vec<String> {
    script.lines("started").iter().flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Whether a process is there and has not ended. A scorer's own zombie counts as running: nobody else will reap it.
#[cfg(target_os = "linux")]
fn runs(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    match (fields.next(), fields.next()) {
        (Some("Z"), Some(parent)) => parent == std::process::id().to_string(),
        (state, _) => state.is_some(),
    }
}

#[cfg(target_os = "linux")]
fn assert_all_end(script: &Script, started: usize) {
    let processes = processes(script);
    assert_eq!(processes.len(), 2 * started);
    for process in processes {
        // The kernel ends a killed process when it can.
        let ended = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(20));
            !runs(&process)
        });
        assert!(ended, "process {process} still runs");
    }
}
