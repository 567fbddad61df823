//! The runs of a sweep.

use std::fmt;

use bupo_core::PolicySite;
use bupo_models::ModelConfig;
use bupo_models::adapter::LayerRanges;
use serde::{Serialize, Serializer};

use crate::RlError;
use crate::config::{Algorithm, TrainConfig};
use crate::phases::{PhaseConfig, PhaseSite};

/// What a run of a sweep trains. Written as `layer:3`, `full`, `parameters:3`, `parameters:all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The policy of a site.
    Site(PolicySite),
    /// The parameters of one layer alone, from 1, by the loss of the full policy (arXiv 2607.01232).
    Layer(usize),
    /// All parameters that the settings train, by the loss of the full policy.
    AllLayers,
}

/// The runs of a sweep: one for each variant and seed.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepPlan {
    /// The settings of all runs. Their first phase is the phase of all runs, but for its site.
    pub settings: TrainConfig,
    /// The steps of a run; `None` for those of the first phase.
    pub steps: Option<usize>,
    /// What the runs train.
    pub variants: Vec<Variant>,
    /// The seeds of each variant.
    pub seeds: Vec<u64>,
}

/// A run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepRun {
    /// What it trains.
    pub variant: Variant,
    /// Its seed.
    pub seed: u64,
    /// Its settings.
    pub config: TrainConfig,
}

impl Variant {
    /// The sites of names such as `layer:1-6` and `full`.
    ///
    /// # Errors
    /// If a name is of no site.
    pub fn of_sites(names: &[String]) -> Result<Vec<Self>, RlError> {
        let sites = names.iter().map(|name| PolicySite::range(name.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(sites.into_iter().flatten().map(Self::Site).collect())
    }

    /// The layers of texts such as `1-6`, `9` and `all`.
    ///
    /// # Errors
    /// If a text is none of these.
    pub fn of_layers(texts: &[String]) -> Result<Vec<Self>, RlError> {
        let mut variants = Vec::new();
        for text in texts.iter().map(|text| text.trim()) {
            if text == "all" {
                variants.push(Self::AllLayers);
                continue;
            }
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let range = first.parse::<usize>().ok().zip(last.parse::<usize>().ok());
            let (first, last) = range.filter(|(first, last)| 1 <= *first && first <= last).ok_or_else(|| {
                RlError::Config(format!("--layers names {text}; write layers from 1, ranges such as 1-6, or all"))
            })?;
            variants.extend((first..=last).map(Self::Layer));
        }
        Ok(variants)
    }

    /// The site whose measures stand beside the variant's gain.
    pub fn site(self) -> PolicySite {
        match self {
            Self::Site(site) => site,
            Self::Layer(layer) => PolicySite::Layer(layer),
            Self::AllLayers => PolicySite::Full,
        }
    }

    /// Whether it is what the others are compared with: the full policy with all parameters.
    pub fn is_reference(self) -> bool {
        self.site() == PolicySite::Full
    }

    /// The settings of its run.
    fn config(self, settings: &TrainConfig, steps: Option<usize>, seed: u64) -> Result<TrainConfig, RlError> {
        let first = settings
            .phases
            .first()
            .ok_or_else(|| RlError::Config("there are no phases; a sweep runs the first one, so give one".into()))?;
        let site = match self {
            Self::Site(site) => site,
            Self::Layer(_) | Self::AllLayers => PolicySite::Full,
        };
        let phase = PhaseConfig { site: PhaseSite::At(site), steps: steps.unwrap_or(first.steps), ..first.clone() };
        let mut config = TrainConfig { phases: vec![phase], seed, ..settings.clone() };
        if let Self::Layer(layer) = self {
            let layers = LayerRanges::of([layer]);
            if config.lora.is_on() {
                config.lora.layers = layers;
            } else {
                let parameters = &mut config.train.parameters;
                (parameters.layers, parameters.embedding, parameters.unembedding) = (layers, false, false);
            }
        }
        Ok(config)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(site) => site.fmt(f),
            Self::Layer(layer) => write!(f, "parameters:{layer}"),
            Self::AllLayers => f.write_str("parameters:all"),
        }
    }
}

impl Serialize for Variant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl SweepPlan {
    /// The runs, seed by seed, so that a sweep that is stopped has whole comparisons.
    ///
    /// # Errors
    /// If the settings have no phase.
    pub fn runs(&self) -> Result<Vec<SweepRun>, RlError> {
        let run = |seed: u64, variant: Variant| -> Result<SweepRun, RlError> {
            Ok(SweepRun { variant, seed, config: variant.config(&self.settings, self.steps, seed)? })
        };
        self.seeds.iter().flat_map(|seed| self.variants.iter().map(move |variant| run(*seed, *variant))).collect()
    }

    /// The settings by which the layers are measured before training: those of the full policy with the first seed.
    ///
    /// # Errors
    /// As [`Self::runs`].
    pub fn measured(&self) -> Result<TrainConfig, RlError> {
        let seed = self.seeds.first().copied().unwrap_or(self.settings.seed);
        Variant::AllLayers.config(&self.settings, self.steps, seed)
    }

    /// Checks the runs against one another and against the model.
    ///
    /// # Errors
    /// If nothing is to be trained, something twice, or something that the model does not have.
    pub fn check(&self, model: &ModelConfig) -> Result<(), RlError> {
        let error = |text: String| Err(RlError::Config(text));
        if self.variants.is_empty() || self.seeds.is_empty() {
            return error("a sweep needs at least one site or layer, and one seed".into());
        }
        for (index, variant) in self.variants.iter().enumerate() {
            if self.variants[..index].contains(variant) {
                return error(format!("the sweep has {variant} twice; name it once"));
            }
        }
        for (index, seed) in self.seeds.iter().enumerate() {
            if self.seeds[..index].contains(seed) {
                return error(format!("--seeds has {seed} twice; name it once"));
            }
        }
        if self.settings.algorithm == Algorithm::Grpo {
            return error(
                "algorithm is \"grpo\", which trains the full policy alone; a sweep chooses the site: remove it".into(),
            );
        }
        for run in self.runs()? {
            run.config.check_trained_in(model).map_err(|error| match error {
                RlError::Config(text) => RlError::Config(format!("the run of {}: {text}", run.variant)),
                other => other,
            })?;
        }
        Ok(())
    }
}

impl SweepRun {
    /// The name of its folder: `layer-3-seed-0`.
    pub fn name(&self) -> String {
        format!("{}-seed-{}", self.variant.to_string().replace(':', "-"), self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    fn plan(variants: Vec<Variant>) -> SweepPlan {
        SweepPlan { settings: TrainConfig::default(), steps: Some(4), variants, seeds: vec![3, 5] }
    }

    #[test]
    fn each_run_has_the_settings_but_for_what_it_trains() -> Result<(), RlError> {
        let runs = plan(Variant::of_sites(&names(&["layer:2-3", "full"]))?).runs()?;
        let found: Vec<String> = runs.iter().map(SweepRun::name).collect();
        assert_eq!(found[..3], ["layer-2-seed-3", "layer-3-seed-3", "full-seed-3"]);
        assert_eq!(runs.len(), 6);
        let expected = TrainConfig {
            seed: 3,
            phases: vec![PhaseConfig::of_site(PhaseSite::At(PolicySite::Layer(2)), 4)],
            ..TrainConfig::default()
        };
        assert_eq!(runs[0].config, expected);
        let runs = plan(Variant::of_layers(&names(&["2", "all"]))?).runs()?;
        assert_eq!((runs[0].name(), runs[1].name()), ("parameters-2-seed-3".into(), "parameters-all-seed-3".into()));
        let (one, all) = (&runs[0].config, &runs[1].config);
        assert!(one.train.parameters.layers.contains(2) && !one.train.parameters.layers.contains(1));
        assert!(!one.train.parameters.embedding && !one.train.parameters.unembedding);
        assert_eq!(all.train, TrainConfig::default().train);
        assert_eq!((&one.phases, one.phases[0].site), (&all.phases, PhaseSite::At(PolicySite::Full)));
        Ok(())
    }

    #[test]
    fn with_an_adapter_the_layers_are_those_of_the_adapter() -> Result<(), RlError> {
        let mut plan = plan(Variant::of_layers(&names(&["4"]))?);
        plan.settings.lora.rank = 2;
        let config = &plan.runs()?[0].config;
        assert_eq!((config.lora.layers.to_string(), config.train.clone()), ("4".into(), TrainConfig::default().train));
        Ok(())
    }

    #[test]
    fn what_names_no_layer_is_refused() {
        for text in ["0", "3-1", "x", "", "1-"] {
            let error = Variant::of_layers(&names(&[text])).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("ranges such as 1-6, or all"), "{text}: {error}");
        }
        assert!(Variant::of_sites(&names(&["layer:x"])).is_err());
    }
}
