//! `bupo lens`
#![allow(clippy::unwrap_used)]

mod program;

use std::fs;

use program::{bupo, fail, succeed, text};
use serde_json::Value;

#[test]
fn the_grid_has_a_row_per_layer_and_fits_the_width() {
    let shown = succeed(&["lens", "7+5="]);
    let rows: Vec<&str> = shown.lines().filter(|line| line.starts_with("layer:") || line.starts_with("full")).collect();
    assert_eq!(rows.len(), 7, "{shown}");
    assert!(shown.starts_with("norm final") && shown.contains("none: raw"), "{shown}");
    assert!(succeed(&["lens", "7+5=", "--norm", "none"]).starts_with("norm none"));
    // With the final norm, the last layer is the full policy.
    assert_eq!(rows[5].trim_start_matches("layer:6").trim(), rows[6].trim_start_matches("full").trim());
    let long = "a+b+c+d+e+f+g+h+i=";
    let cut = succeed(&["lens", long]);
    assert!(cut.lines().all(|line| line.chars().count() <= 80), "{cut}");
    let hint = cut.lines().last().unwrap();
    assert!(hint.contains("left out for width: 1-"), "{hint}");
    let range = hint.split("--position ").nth(1).unwrap().split(' ').next().unwrap();
    let last: usize = range.trim_start_matches("1-").parse().unwrap();
    let rest = succeed(&["lens", long, "--position", range]);
    let numbers: Vec<String> = (1..=last).map(|number| number.to_string()).collect();
    let heads = rest.lines().filter(|line| line.split_whitespace().all(|word| numbers.contains(&word.to_string())));
    assert_eq!(heads.flat_map(str::split_whitespace).collect::<Vec<_>>(), numbers);
}

#[test]
fn sites_layers_and_positions_are_chosen() {
    let shown = succeed(&["lens", "7+5=", "--site", "attn,ffn", "--layers", "2-3", "--position", "1,4"]);
    let names: Vec<&str> = shown.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = ["attn:2", "ffn:2", "attn:3", "ffn:3", "full"];
    assert_eq!(names.iter().filter(|name| expected.contains(name)).count(), 5, "{shown}");
    assert!(!shown.contains("layer:") && shown.lines().any(|line| line.split_whitespace().eq(["1", "4"])), "{shown}");
    assert!(fail(&["lens", "7+5=", "--position", "99"]).contains("positions 1 to 4"));
    assert!(fail(&["lens", "7+5=", "--layers", "3-9"]).contains("layers 1 to 6"));
    for wrong in [["--site", "mlp"], ["--position", "0"], ["--layers", "3-2"], ["--position", "x"]] {
        let output = bupo(&["lens", "7+5=", wrong[0], wrong[1]]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && message.contains(wrong[1]), "{wrong:?}: {message}");
    }
}

#[test]
fn a_token_is_followed_through_the_layers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lens.json");
    let shown = succeed(&["lens", "7+5=", "--token", "1"]);
    assert!(shown.contains("\"1\" after position 4 \"=\""), "{shown}");
    succeed(&["lens", "7+5=", "--token", "1", "--json", text(&path), "--top", "300"]);
    let lens: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(lens["followed"]["text"], "1");
    for site in lens["positions"][3]["sites"].as_array().unwrap() {
        let rank = site["followed"]["rank"].as_u64().unwrap() as usize;
        assert_eq!(site["top"][rank - 1]["token"]["text"], "1");
        assert_eq!(site["top"][rank - 1]["prob"], site["followed"]["prob"]);
        let name = site["site"].as_str().unwrap();
        let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some(rank.to_string().as_str()), "{shown}");
    }
    assert!(fail(&["lens", "7+5=", "--token", "12"]).contains("2 tokens (\"1\" \"2\")"));
    assert!(fail(&["lens", "7+5=", "--token", ""]).contains("--token"));
}

#[test]
fn a_page_has_the_grid_and_the_texts_are_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lens.html");
    let shown = succeed(&["lens", "</script><b>", "--html", text(&path)]);
    assert!(shown.contains("lens.html"), "{shown}");
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.contains("<th scope=\"row\">layer:6</th>") && page.contains("norm final"));
    assert_eq!(page.matches("</script>").count(), 2);
    assert_eq!(page.matches("<td ").count(), 7 * "</script><b>".len());
    assert!(!page.contains("http"), "the page loads nothing");
    // A title has the model's name, not its path.
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/arithmetic-1m/");
    succeed(&["lens", "1", "--model", model, "--html", text(&path)]);
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.contains("<h1>Next tokens by layer: arithmetic-1m</h1>"), "{page}");
    let nowhere = folder.path().join("nowhere/lens.html");
    assert!(fail(&["lens", "1", "--html", text(&nowhere)]).contains("nowhere"));
}

#[test]
fn an_attribution_adds_up_to_the_logit_on_the_screen_in_json_and_on_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let (path, page) = (folder.path().join("lens.json"), folder.path().join("lens.html"));
    let shown = succeed(&["lens", "7+5=", "--attribution"]);
    let row = |name: &str| -> Vec<f64> {
        let line = shown.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
        line.split_whitespace().skip(1).map(|number| number.parse().unwrap()).collect()
    };
    let logits = row("logit");
    assert_eq!(logits.len(), 4, "{shown}");
    for (column, logit) in logits.iter().enumerate() {
        let layers: f64 = (1..=6).map(|layer| row(&format!("layer:{layer}"))[column]).sum();
        assert!((row("embed")[column] + layers - logit).abs() < 0.05, "{shown}");
    }
    // The token is the most probable one, or the given one.
    let all = ["--site", "attn,ffn", "--json", text(&path), "--html", text(&page)];
    succeed(&[&["lens", "7+5=", "--attribution"], &all[..]].concat());
    let lens: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (position, shown) in lens["positions"].as_array().unwrap().iter().zip(&logits) {
        let attribution = &position["attribution"];
        let sites = attribution["sites"].as_array().unwrap();
        assert_eq!((sites.len(), &sites[1]["site"]), (12, &Value::from("ffn:1")));
        let added: f64 = sites.iter().map(|site| site["added"].as_f64().unwrap()).sum();
        let logit = attribution["logit"].as_f64().unwrap();
        assert!(
            (attribution["embedding"].as_f64().unwrap() + added - logit).abs() < 1e-3 && (logit - shown).abs() < 0.01
        );
        let full = position["sites"].as_array().unwrap().last().unwrap();
        assert_eq!(attribution["token"], full["top"][0]["token"]);
    }
    let page = fs::read_to_string(&page).unwrap();
    assert!(page.contains("Direct logit attribution") && page.contains("<th scope=\"row\">embed</th>"));
    let number = format!(">{:+.2}</td>", logits[3]);
    assert!(page.contains(&number), "{number}");
    let of_token = succeed(&["lens", "7+5=", "--attribution", "--token", "9"]);
    assert!(of_token.lines().any(|line| line.trim() == "\u{2192} 9"), "{of_token}");
    assert!(fail(&["lens", "7+5=", "--attribution", "--top", "3"]).contains("--top"));
    assert!(!succeed(&["lens", "7+5="]).contains("embed"));
}
