//! The datasets of the paper, in the folder that `BUPO_TEST_DATA` names.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bupo_data::{Columns, Prompt, describe, read_problems};

#[test]
fn the_papers_files_are_read() {
    let Some(folder) = std::env::var_os("BUPO_TEST_DATA") else {
        println!("skipped: BUPO_TEST_DATA is not set");
        return;
    };
    let folder = Path::new(&folder);
    let files = [
        ("deepmath-5k", 5000, "math_dapo", r"\infty", "Determine the order of the cyclic subgroup"),
        ("aime_2024", 30, "qwen_aime_2024", "540", r"Find the largest possible real part of \[(75+117i)z"),
        ("aime_2025", 30, "qwen_aime_2025", "70", "Find the sum of all integer bases $b>9$"),
        ("amc2023", 40, "qwen_amc2023", "27", "Cities $A$ and $B$ are $45$ miles apart."),
        ("math500", 500, "qwen_math500", r"\left( 3, \frac{\pi}{2} \right)", "Convert the point $(0,3)$"),
    ];
    for (name, rows, data_source, answer, question) in files {
        let path = folder.join(format!("{name}.parquet"));
        let described = describe(&path).unwrap();
        assert_eq!(described.rows, rows, "{name}");
        assert!(described.columns.iter().any(|column| column.name == "extra_info.split" && column.kind == "null"));
        let problems = read_problems(&[path], &Columns::default()).unwrap();
        assert_eq!(problems.len() as u64, rows, "{name}");
        assert!(problems.iter().all(|problem| problem.data_source == data_source), "{name}");
        assert_eq!(problems[0].answer, answer, "{name}");
        for problem in &problems {
            let Prompt::Chat(messages) = &problem.prompt else { panic!("{name}: {problem:?}") };
            let roles: Vec<_> = messages.iter().map(|message| message.role.as_str()).collect();
            assert_eq!(roles, ["system", "user"], "{name}");
        }
        let Prompt::Chat(messages) = &problems[0].prompt else { panic!("{name}") };
        assert_eq!(messages[0].content, r"Please reason step by step, and put your final answer within \boxed{}.");
        assert!(messages[1].content.starts_with(question), "{name}");
    }
}
