//! The section of maps by token: those of each response, and of two models their difference.

use bupo_analysis::ResponseMap;

use crate::page::{Part, Section};
use crate::response_picture::{difference_pictures, most_entropy, response_pictures};

pub(super) fn section(maps: &[ResponseMap]) -> Section {
    let text = "Entropy of the policies of layers, attention and feed-forward at each token of some responses. Each column is the \
                position that predicts the token below it. Hover over a cell of a layer for the policy's most probable tokens.";
    let (parts, remark) = match two_models(maps) {
        Some((a, b)) => compared(a, b),
        None => (maps.iter().enumerate().map(|(index, map)| alone(map, index + 1)).collect(), String::new()),
    };
    Section { title: "Entropy by token".into(), text: format!("{text}{remark}"), parts }
}

fn alone(map: &ResponseMap, number: usize) -> Part {
    Part::Pictures(response_pictures(map, number, most_entropy([map])))
}

/// The maps of the first and of the second model, if there are two.
fn two_models(maps: &[ResponseMap]) -> Option<(&[ResponseMap], &[ResponseMap])> {
    let (first, last) = (maps.first()?, maps.last()?);
    let (a, b) = maps.split_at(maps.iter().take_while(|map| map.model == first.model).count());
    (!b.is_empty() && b.iter().all(|map| map.model == last.model)).then_some((a, b))
}

/// Each response of the two models side by side, with their difference if they are of the same tokens and layers; and what to
/// know about it.
fn compared(a: &[ResponseMap], b: &[ResponseMap]) -> (Vec<Part>, String) {
    let mut parts = Vec::new();
    let (mut differences, mut other_tokens) = (false, false);
    for index in 0..a.len().max(b.len()) {
        // Numbers, which are in file names, count the responses of all models.
        let (first, second) = (index + 1, a.len() + index + 1);
        let (a, b) = match (a.get(index), b.get(index)) {
            (Some(a), Some(b)) => (a, b),
            (a, b) => {
                parts.extend(a.map(|map| alone(map, first)).or(b.map(|map| alone(map, second))));
                continue;
            }
        };
        let most = most_entropy([a, b]);
        let [of_a, of_b] = [(a, first), (b, second)].map(|(map, number)| response_pictures(map, number, most));
        let are_same_tokens = (&a.prompt, &a.tokens) == (&b.prompt, &b.tokens);
        let has_difference = are_same_tokens && layers(a) == layers(b);
        let difference = if has_difference { difference_pictures(a, b, first) } else { Vec::new() };
        differences |= has_difference;
        other_tokens |= !are_same_tokens;
        let mut difference = difference.into_iter();
        let kinds = of_a.into_iter().zip(of_b);
        parts.extend(kinds.map(|(of_a, of_b)| match difference.next() {
            Some(difference) => Part::Compared([of_a, of_b, difference].into()),
            None => Part::Pictures(vec![of_a, of_b]),
        }));
    }
    let (a, b) = (&a[0], &b[0]);
    let mut remark = format!("\n\nA is {}, B is {}.", a.model, b.model);
    if differences {
        remark += " The third map of each kind is the entropy in B minus that in A: orange where there is more in B, blue where there \
                   is more in A.";
    }
    if layers(a) != layers(b) {
        remark += &format!(" No difference is drawn: A has {} layers and B has {}.", layers(a), layers(b));
    } else if other_tokens {
        remark += " No difference is drawn of responses whose tokens differ; --completions gives both models the same responses.";
    }
    (parts, remark)
}

fn layers(map: &ResponseMap) -> usize {
    map.attention.len()
}

#[cfg(test)]
mod tests {
    use bupo_analysis::MapCell;
    use bupo_chart::{Chart, ColourScale, HeatMap};
    use bupo_core::Norm;

    use super::*;
    use crate::page::Picture;

    /// A map whose entropies all are `entropy`, those of attention half and of feed-forward twice as much.
    fn map(model: &str, layers: usize, tokens: &[&str], entropy: f32) -> ResponseMap {
        let rows = |value: f32| vec![vec![value; tokens.len()]; layers];
        ResponseMap {
            model: model.into(),
            norm: Norm::Final,
            prompt: "1+1=".into(),
            tokens: tokens.iter().map(ToString::to_string).collect(),
            cells: vec![vec![MapCell { entropy, top: Vec::new() }; tokens.len()]; layers + 1],
            attention: rows(entropy / 2.0),
            feed_forward: rows(entropy * 2.0),
            cut: false,
        }
    }

    fn pictures(section: &Section) -> Vec<Vec<(&str, &HeatMap)>> {
        section.parts.iter().map(|part| heat_maps(part).collect()).collect()
    }

    fn heat_maps(part: &Part) -> impl Iterator<Item = (&str, &HeatMap)> {
        let pictures: &[Picture] = match part {
            Part::Pictures(pictures) | Part::Compared(pictures) => pictures,
            _ => &[],
        };
        pictures.iter().filter_map(|picture| match &picture.chart {
            Chart::Heat(map) => Some((picture.name.as_str(), map)),
            Chart::Line(_) => None,
        })
    }

    #[test]
    fn two_models_have_maps_of_their_difference() {
        let section = section(&[map("one", 2, &["2", "3"], 1.0), map("two", 2, &["2", "3"], 1.5)]);
        let pictures = pictures(&section);
        let names: Vec<Vec<&str>> = pictures.iter().map(|part| part.iter().map(|(name, _)| *name).collect()).collect();
        assert_eq!(
            names,
            [
                ["response-1", "response-2", "response-difference-1"],
                ["response-attn-1", "response-attn-2", "response-attn-difference-1"],
                ["response-ffn-1", "response-ffn-2", "response-ffn-difference-1"],
            ]
        );
        for (part, expected) in pictures.iter().zip([0.5, 0.25, 1.0]) {
            let [(_, a), (_, b), (_, difference)] = part[..] else { panic!("{names:?}") };
            assert_eq!((&difference.rows, &difference.columns), (&a.rows, &a.columns));
            assert!(difference.values.iter().flatten().all(|value| *value == expected), "{:?}", difference.values);
            assert_eq!((difference.scale, difference.range), (ColourScale::Diverging, Some((-1.0, 1.0))));
            assert_eq!((a.scale, a.range, b.range), (ColourScale::Sequential, Some((0.0, 3.0)), Some((0.0, 3.0))));
            assert!(difference.value_label.contains("more in B"), "{}", difference.value_label);
        }
        assert!(section.text.contains("A is one, B is two. The third map"), "{}", section.text);
    }

    #[test]
    fn other_layers_or_tokens_have_no_difference() {
        let a = map("one", 2, &["2", "3"], 1.0);
        for (b, expected) in [
            (map("two", 3, &["2", "3"], 1.0), "No difference is drawn: A has 2 layers and B has 3."),
            (map("two", 2, &["2", "4"], 1.0), "No difference is drawn of responses whose tokens differ; --completions"),
        ] {
            let section = section(&[a.clone(), b]);
            assert!(section.text.contains(expected), "{}", section.text);
            assert!(!section.text.contains("third map"), "{}", section.text);
            assert!(pictures(&section).iter().all(|part| part.len() == 2));
        }
    }

    #[test]
    fn one_or_three_models_have_the_maps_of_each_response() {
        let one = [map("one", 2, &["2"], 1.0), map("one", 2, &["3"], 1.0)];
        let three = [map("one", 2, &["2"], 1.0), map("two", 2, &["2"], 1.0), map("three", 2, &["2"], 1.0)];
        for maps in [&one[..], &three] {
            let section = section(maps);
            assert_eq!(pictures(&section).iter().map(Vec::len).collect::<Vec<_>>(), vec![3; maps.len()]);
            assert!(!section.text.contains("No difference"), "{}", section.text);
        }
    }
}
