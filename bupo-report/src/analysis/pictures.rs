//! The charts of an analysis.

use bupo_analysis::{Analysis, Estimate, Slice, Statistic};
use bupo_chart::{LineChart, Mark, Point, Series, Shade, YScale};
use bupo_core::PolicySite;

use super::has;
use crate::page::Picture;

type Site = fn(usize) -> PolicySite;

/// The three kinds of internal policies.
const KINDS: [(&str, Site); 3] =
    [("layer", PolicySite::Layer), ("attention", PolicySite::Attn), ("feed-forward", PolicySite::Ffn)];

pub(super) struct Pictures<'a> {
    pub(super) analyses: &'a [Analysis],
}

impl Pictures<'_> {
    pub(super) fn entropy_flow(&self) -> Vec<Picture> {
        let most = self.analyses.iter().map(|a| (a.info.vocab_size as f64).ln()).fold(0.0, f64::max);
        self.each(|analysis, number| {
            let chart = LineChart {
                title: analysis.info.model.clone(),
                y_range: Some((0.0, most)),
                ..by_layer("entropy (nats)", kinds(analysis, Statistic::Entropy))
            };
            let caption = format!("Mean entropy of the layer, attention and feed-forward policies. ln V is {most:.2}.");
            Picture::new(format!("entropy-flow-{number}"), staged(chart, analysis), caption)
        })
    }

    pub(super) fn entropy_change(&self) -> Vec<Picture> {
        let picture = |name: &str, (kind, site): (&str, Site), caption: &str| {
            let chart = LineChart {
                title: format!("Entropy change, {kind}"),
                zero_line: true,
                ..by_layer("entropy change (nats)", self.models(site, Statistic::EntropyChange))
            };
            // The stages of several models would overlap.
            let chart = match self.analyses {
                [only] if kind == "feed-forward" => staged(chart, only),
                _ => chart,
            };
            let tolerance =
                self.analyses.first().and_then(|a| a.boundary.as_ref()).map(|b| (-b.tolerance, b.tolerance));
            let band = if kind == "feed-forward" { tolerance } else { None };
            Picture::new(name, LineChart { band, ..chart }, caption)
        };
        vec![
            picture("entropy-change-ffn", KINDS[2], "The stages are fitted to these values."),
            picture("entropy-change-attn", KINDS[1], "In the paper, positive for Qwen3 and negative for Qwen2.5-Math."),
            picture(
                "entropy-change-layer",
                KINDS[0],
                "Change of the residual stream's entropy from one layer to the next, without the modules' norms.",
            ),
        ]
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
                title: format!("{}: divergence from the full policy", analysis.info.model),
                ..by_layer("nats", divergences(analysis))
            };
            Picture::new(format!("divergence-{number}"), chart, "0 is the full policy.")
        });
        pictures.extend(self.each(|analysis, number| {
            let chart = LineChart {
                title: format!("{}: agreement with the full policy", analysis.info.model),
                y_range: Some((0.0, 1.0)),
                ..by_layer("fraction of tokens", kinds(analysis, Statistic::Agreement))
            };
            Picture::new(
                format!("agreement-{number}"),
                chart,
                "Fraction of tokens with the same most probable token as the full policy.",
            )
        }));
        pictures
    }

    pub(super) fn response_tokens(&self) -> Vec<Picture> {
        let mut pictures = self.each(|analysis, number| {
            let chart = LineChart {
                title: format!("{}: probability of the response token", analysis.info.model),
                y_range: Some((0.0, 1.0)),
                ..by_layer("probability", kinds(analysis, Statistic::Probability))
            };
            Picture::new(
                format!("probability-{number}"),
                chart,
                "Mean probability of the response token in each policy.",
            )
        });
        pictures.extend(self.each(|analysis, number| {
            let chart = LineChart {
                title: format!("{}: rank of the response token", analysis.info.model),
                y_scale: YScale::Log,
                ..by_layer("mean rank", kinds(analysis, Statistic::Rank))
            };
            Picture::new(format!("rank-{number}"), chart, "Mean rank; a few tokens of high rank dominate it.")
        }));
        pictures
    }

    pub(super) fn contributions(&self) -> Vec<Picture> {
        let mut pictures = self.each(|analysis, number| {
            let chart = LineChart {
                title: format!("{}: norms", analysis.info.model),
                y_scale: YScale::Log,
                ..by_layer("Euclidean norm", kinds(analysis, Statistic::Norm))
            };
            Picture::new(
                format!("norms-{number}"),
                chart,
                "Norms of the residual stream and of the contributions to it.",
            )
        });
        pictures.extend(self.each(|analysis, number| {
            let chart = LineChart {
                title: format!("{}: cosine similarity", analysis.info.model),
                zero_line: true,
                ..by_layer("cosine", kinds(analysis, Statistic::Cosine))
            };
            let caption =
                "Layer: H^l with H^(l-1). Attention: with the stream before it. Feed-forward: with the stream before it.";
            Picture::new(format!("cosines-{number}"), chart, caption)
        }));
        pictures.extend(self.each(|analysis, number| {
            let chart = LineChart {
                title: format!("{}: participation ratio", analysis.info.model),
                zero_line: true,
                ..by_layer("participation ratio", kinds(analysis, Statistic::Participation))
            };
            Picture::new(format!("directions-{number}"), chart, "Per response, averaged over responses.")
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
        let pictures = |(title, label, site, statistic, zero_line, file): (&str, &str, Site, Statistic, bool, &str)| {
            self.each(|analysis, number| {
                let slices: Vec<Slice> = analysis.slices().into_iter().filter(wanted).collect();
                let lines =
                    slices.iter().map(|slice| series(&slice.to_string(), &analysis.by_layer(site, statistic, *slice)));
                let chart = LineChart {
                    title: format!("{}: {title}", analysis.info.model),
                    zero_line,
                    ..by_layer(label, lines.collect())
                };
                Picture::new(
                    format!("{file}-by-{name}-{number}"),
                    chart,
                    "Bands are 95% confidence intervals over responses.",
                )
            })
        };
        [
            ("entropy of the layer policies", "entropy (nats)", KINDS[0].1, Statistic::Entropy, true, "entropy"),
            (
                "feed-forward entropy change",
                "entropy change (nats)",
                KINDS[2].1,
                Statistic::EntropyChange,
                true,
                "change",
            ),
        ]
        .into_iter()
        .flat_map(pictures)
        .collect()
    }

    /// One chart per model, numbered from 1.
    fn each(&self, picture: impl Fn(&Analysis, usize) -> Picture) -> Vec<Picture> {
        self.analyses.iter().enumerate().map(|(index, analysis)| picture(analysis, index + 1)).collect()
    }

    /// One line per model.
    fn models(&self, site: Site, statistic: Statistic) -> Vec<Series> {
        let line = |analysis: &Analysis| series(&analysis.info.model, &analysis.by_layer(site, statistic, Slice::All));
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
