//! The charts of an analysis.

use bupo_analysis::{Analysis, Estimate, Slice, Statistic};
use bupo_chart::{LineChart, Mark, Point, Series, Shade, YScale};
use bupo_core::PolicySite;

use super::{captions, has};
use crate::page::Picture;

type Site = fn(usize) -> PolicySite;
/// A chart with its statistic, the form of its numbers and the end of its caption.
type Kind = (LineChart, Statistic, fn(f64) -> String, &'static str);

/// The three kinds of internal policies.
const KINDS: [(&str, Site); 3] =
    [("layer", PolicySite::Layer), ("attention", PolicySite::Attn), ("feed-forward", PolicySite::Ffn)];

pub(super) struct Pictures<'a> {
    pub(super) analyses: &'a [Analysis],
}

impl Pictures<'_> {
    pub(super) fn entropy(&self) -> Vec<Picture> {
        let most = self.analyses.iter().map(|a| (a.info.vocab_size as f64).ln()).fold(0.0, f64::max);
        let mut pictures = self.each(|analysis, number| {
            let chart = LineChart {
                title: format!("{}: entropy by layer", analysis.info.title),
                y_range: Some((0.0, most)),
                ..by_layer("entropy (nats)", kinds(analysis, Statistic::Entropy))
            };
            let full = analysis.row(PolicySite::Full, Statistic::Entropy, Slice::All);
            let full =
                full.map_or(String::new(), |row| format!(" Full policy: {}.", captions::number(row.estimate.mean)));
            let norm = analysis.info.norm;
            let caption =
                format!("{}{full} Norm {norm}; ln V is {most:.2}.", captions::ends(&chart.series, captions::number));
            Picture::new(format!("entropy-flow-{number}"), staged(chart, analysis), caption)
        });
        pictures.push(self.change(
            "entropy-change-layer",
            KINDS[0],
            "From one layer to the next, without the modules' norms.",
        ));
        pictures
    }

    pub(super) fn entropy_change(&self) -> Vec<Picture> {
        vec![
            self.change("entropy-change-ffn", KINDS[2], "The stages are fitted to these values."),
            self.change("entropy-change-attn", KINDS[1], ""),
        ]
    }

    /// The entropy change at one kind of site, with one line per model.
    fn change(&self, name: &str, (kind, site): (&str, Site), text: &str) -> Picture {
        let chart = LineChart {
            title: format!("Entropy change, {kind}"),
            zero_line: true,
            ..by_layer("entropy change (nats)", self.models(site, Statistic::EntropyChange))
        };
        let caption = format!("{} {text}", captions::extremes(&chart.series));
        if kind != "feed-forward" {
            return Picture::new(name, chart, caption);
        }
        let tolerance = self.analyses.first().and_then(|a| a.boundary.as_ref()).map(|b| (-b.tolerance, b.tolerance));
        // The stages of several models would overlap.
        let chart = match self.analyses {
            [only] => staged(chart, only),
            _ => chart,
        };
        Picture::new(name, LineChart { band: tolerance, ..chart }, caption)
    }

    pub(super) fn divergence(&self) -> Vec<Picture> {
        if !has(self.analyses, Statistic::Kl, Slice::All) {
            return Vec::new();
        }
        let divergences = |analysis: &Analysis| {
            [
                ("KL(layer || full)", Statistic::Kl),
                ("KL(full || layer)", Statistic::ReverseKl),
                ("Jensen-Shannon", Statistic::Js),
            ]
            .map(|(name, statistic)| series(name, &analysis.by_layer(PolicySite::Layer, statistic, Slice::All)))
            .into()
        };
        let mut pictures = self.each(|analysis, number| {
            let chart = LineChart {
                title: format!("{}: divergence from the full policy", analysis.info.title),
                zero_line: true,
                ..by_layer("nats", divergences(analysis))
            };
            let caption = captions::ends(&chart.series, captions::number);
            Picture::new(format!("divergence-{number}"), chart, caption)
        });
        pictures.extend(self.by_kind("agreement", "agreement with the full policy", "fraction of tokens", |chart| {
            (LineChart { y_range: Some((0.0, 1.0)), ..chart }, Statistic::Agreement, captions::percent, "")
        }));
        pictures
    }

    pub(super) fn response_tokens(&self) -> Vec<Picture> {
        let mut pictures = self.by_kind("probability", "probability of the response token", "probability", |chart| {
            (LineChart { y_range: Some((0.0, 1.0)), ..chart }, Statistic::Probability, captions::number, "")
        });
        pictures.extend(self.by_kind("rank", "rank of the response token", "mean rank", |chart| {
            let text = "A few tokens of high rank dominate the mean.";
            (LineChart { y_scale: YScale::Log, ..chart }, Statistic::Rank, captions::number, text)
        }));
        pictures
    }

    pub(super) fn attribution(&self) -> Vec<Picture> {
        if !has(self.analyses, Statistic::Attribution, Slice::All) {
            return Vec::new();
        }
        self.each(|analysis, number| {
            let chart = LineChart {
                title: format!("{}: direct logit attribution", analysis.info.title),
                zero_line: true,
                ..by_layer("added to the logit", kinds(analysis, Statistic::Attribution))
            };
            let of = |site, statistic| analysis.row(site, statistic, Slice::All).map(|row| row.estimate.mean);
            let parts = [
                ("The embedding adds", of(PolicySite::Layer(1), Statistic::InputAttribution)),
                ("the mean logit is", of(PolicySite::Full, Statistic::Attribution)),
            ];
            let parts = parts.map(|(text, value)| format!("{text} {}", value.map_or("-".into(), captions::number)));
            let caption = format!("{} {}.", captions::extremes(&chart.series), parts.join(", "));
            Picture::new(format!("attribution-{number}"), chart, caption)
        })
    }

    /// Of all layers to the last one; and of models after the first, to the same layer of the first.
    pub(super) fn similarity(&self) -> Vec<Picture> {
        let cosine_and_cka = |analysis: &Analysis, [cosine, cka]: [Statistic; 2]| {
            let line =
                |name: &str, statistic| series(name, &analysis.by_layer(PolicySite::Layer, statistic, Slice::All));
            vec![line("cosine", cosine), line("linear CKA", cka)]
        };
        let first = self.analyses.first().map_or("", |first| first.info.title.as_str());
        let mut pictures = Vec::new();
        for (file, to, statistics) in [
            ("similarity-to-last", "the last layer", [Statistic::CosineToLast, Statistic::CkaToLast]),
            ("similarity-to-base", first, [Statistic::CosineToBase, Statistic::CkaToBase]),
        ] {
            for (index, analysis) in self.analyses.iter().enumerate() {
                if !has(std::slice::from_ref(analysis), statistics[0], Slice::All) {
                    continue;
                }
                let chart = LineChart {
                    title: format!("{}: similarity to {to}", analysis.info.title),
                    zero_line: statistics[0] == Statistic::CosineToLast,
                    ..by_layer("similarity", cosine_and_cka(analysis, statistics))
                };
                // Similarities to another model can be close to 1.
                let caption = captions::ends(&chart.series, |value| format!("{value:.4}"));
                pictures.push(Picture::new(format!("{file}-{}", index + 1), chart, caption));
            }
        }
        pictures
    }

    pub(super) fn contributions(&self) -> Vec<Picture> {
        let mut pictures = self.by_kind("norms", "norms", "Euclidean norm", |chart| {
            (LineChart { y_scale: YScale::Log, ..chart }, Statistic::Norm, captions::number, "")
        });
        pictures.extend(self.by_kind("cosines", "cosine similarity", "cosine", |chart| {
            let text = "Layer: of H^l and H^(l-1); modules: with the stream before them.";
            (LineChart { zero_line: true, ..chart }, Statistic::Cosine, captions::number, text)
        }));
        pictures.extend(self.by_kind("directions", "participation ratio", "participation ratio", |chart| {
            let text = "Per response, averaged over responses.";
            (LineChart { zero_line: true, ..chart }, Statistic::Participation, captions::number, text)
        }));
        pictures
    }

    pub(super) fn by_position(&self) -> Vec<Picture> {
        self.sliced("position", |slice| matches!(slice, Slice::Positions { .. }))
    }

    pub(super) fn by_score(&self) -> Vec<Picture> {
        if !(has(self.analyses, Statistic::Entropy, Slice::Correct)
            && has(self.analyses, Statistic::Entropy, Slice::Incorrect))
        {
            return Vec::new();
        }
        self.sliced("score", |slice| matches!(slice, Slice::Correct | Slice::Incorrect))
    }

    /// Layer entropy and feed-forward entropy change, with one line per slice.
    fn sliced(&self, name: &str, wanted: fn(&Slice) -> bool) -> Vec<Picture> {
        let pictures = |(title, label, site, statistic, file): (&str, &str, Site, Statistic, &str)| {
            self.each(|analysis, number| {
                let slices: Vec<Slice> = analysis.slices().into_iter().filter(wanted).collect();
                let lines =
                    slices.iter().map(|slice| series(&slice.to_string(), &analysis.by_layer(site, statistic, *slice)));
                let chart = LineChart {
                    title: format!("{}: {title}", analysis.info.title),
                    zero_line: true,
                    ..by_layer(label, lines.collect())
                };
                let caption = captions::last(&chart.series, captions::number);
                Picture::new(format!("{file}-by-{name}-{number}"), chart, caption)
            })
        };
        [
            ("entropy of the layer policies", "entropy (nats)", KINDS[0].1, Statistic::Entropy, "entropy"),
            ("feed-forward entropy change", "entropy change (nats)", KINDS[2].1, Statistic::EntropyChange, "change"),
        ]
        .into_iter()
        .flat_map(pictures)
        .collect()
    }

    /// One chart per model, with a line for layers, attention and feed-forward each. `finish` sets the axis and gives the
    /// statistic, the form of its numbers and the end of the caption.
    fn by_kind(&self, file: &str, title: &str, y_label: &str, finish: fn(LineChart) -> Kind) -> Vec<Picture> {
        self.each(|analysis, number| {
            let (chart, statistic, form, text) = finish(by_layer(y_label, Vec::new()));
            let title = format!("{}: {title}", analysis.info.title);
            let chart = LineChart { title, series: kinds(analysis, statistic), ..chart };
            let caption = format!("{} {text}", captions::ends(&chart.series, form));
            Picture::new(format!("{file}-{number}"), chart, caption)
        })
    }

    /// One chart per model, numbered from 1.
    fn each(&self, picture: impl Fn(&Analysis, usize) -> Picture) -> Vec<Picture> {
        self.analyses.iter().enumerate().map(|(index, analysis)| picture(analysis, index + 1)).collect()
    }

    /// One line per model.
    fn models(&self, site: Site, statistic: Statistic) -> Vec<Series> {
        let line = |analysis: &Analysis| series(&analysis.info.title, &analysis.by_layer(site, statistic, Slice::All));
        self.analyses.iter().map(line).collect()
    }
}

fn by_layer(y_label: &str, series: Vec<Series>) -> LineChart {
    LineChart { x_label: "layer".into(), y_label: y_label.into(), series, ..LineChart::default() }
}

fn kinds(analysis: &Analysis, statistic: Statistic) -> Vec<Series> {
    KINDS.iter().map(|(name, site)| series(name, &analysis.by_layer(*site, statistic, Slice::All))).collect()
}

fn series(name: &str, values: &[(usize, Estimate)]) -> Series {
    let point = |(layer, estimate): &(usize, Estimate)| Point {
        x: *layer as f64,
        y: estimate.mean,
        interval: estimate.interval,
    };
    Series { name: name.to_string(), points: values.iter().map(point).collect() }
}

/// Adds the stages as shades and the boundary layer as a mark.
fn staged(chart: LineChart, analysis: &Analysis) -> LineChart {
    let Some(boundary) = &analysis.boundary else { return chart };
    let shade = |(name, first, last): (&str, usize, usize)| Shade {
        from: first as f64 - 0.5,
        to: last as f64 + 0.5,
        label: name.to_string(),
    };
    let mark = |layer: usize| Mark { x: layer as f64, label: format!("layer {layer}") };
    LineChart {
        shades: boundary.stages.named().into_iter().map(shade).collect(),
        marks: boundary.layer.into_iter().map(mark).collect(),
        ..chart
    }
}
