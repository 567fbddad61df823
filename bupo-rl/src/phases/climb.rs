//! Phases whose site is a range of layers: they stand for a phase of each layer, from the lowest to the highest.

use bupo_core::PolicySite;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::schedule::{AUTO, PhaseConfig, PhaseSite};

/// The sites that a phase as written trains one after the other; at least one.
pub(super) struct PhaseSites(pub(super) Vec<PhaseSite>);

/// Reads phases as they are written, and writes out those of a range of layers: `site = "layer:2-6"` with 20 steps is
/// five phases of 4 steps each. Steps that do not divide evenly go to the lower layers, one each.
///
/// # Errors
/// If a phase cannot be read, or has fewer steps than layers.
pub(crate) fn written_out<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PhaseConfig>, D::Error> {
    let written = Vec::<PhaseConfig<PhaseSites>>::deserialize(deserializer)?;
    let mut phases = Vec::with_capacity(written.len());
    for (index, phase) in written.into_iter().enumerate() {
        let PhaseConfig { site: PhaseSites(sites), steps, norm, samples, without_prompt, sites: further } = phase;
        let count = sites.len();
        if count > 1 && steps < count {
            return Err(D::Error::custom(format!(
                "phases.{index} trains {count} layers one after the other, but has steps = {steps}; give it at least \
                 {count}"
            )));
        }
        phases.extend(sites.into_iter().enumerate().map(|(number, site)| PhaseConfig {
            site,
            steps: steps / count + usize::from(number < steps % count),
            norm,
            samples,
            without_prompt,
            sites: further.clone(),
        }));
    }
    Ok(phases)
}

impl<'de> Deserialize<'de> for PhaseSites {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a policy site such as \"layer:6\", a layer's number, layers one after the other such as \
                         \"layer:2-6\", or \"auto\""
        )]
        enum Written {
            Layer(usize),
            Name(String),
        }
        let name = match Written::deserialize(deserializer)? {
            Written::Layer(layer) => return Ok(Self(vec![PhaseSite::At(PolicySite::Layer(layer))])),
            Written::Name(name) if name == AUTO => return Ok(Self(vec![PhaseSite::Auto])),
            Written::Name(name) => name,
        };
        // layer = "2-6"
        let name = if name.starts_with(|c: char| c.is_ascii_digit()) { format!("layer:{name}") } else { name };
        let sites = PolicySite::range(&name).map_err(D::Error::custom)?;
        Ok(Self(sites.into_iter().map(PhaseSite::At).collect()))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::TrainConfig;
    use crate::error::RlError;

    fn load(pairs: &[&str]) -> Result<TrainConfig, RlError> {
        TrainConfig::load(None, &pairs.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_range_of_layers_is_a_phase_of_each() -> Result<(), Box<dyn std::error::Error>> {
        let climbing = load(&["phases.0.site=layer:2-4", "phases.0.steps=8", "phases.0.norm=final"])?;
        let written: Vec<(String, usize)> =
            climbing.schedule(6)?.phases().iter().map(|phase| (phase.site.to_string(), phase.steps)).collect();
        let expected = [("layer:2", 3), ("layer:3", 3), ("layer:4", 2), ("full", 70)];
        assert_eq!(written, expected.map(|(site, steps)| (site.to_string(), steps)));
        assert!(climbing.phases[..3].iter().all(|phase| phase.norm == bupo_core::Norm::Final));
        // What is written to a run's folder has the phases written out, and reads as the same settings.
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.toml");
        std::fs::write(&path, climbing.to_toml()?)?;
        assert_eq!(TrainConfig::load(Some(&path), &[])?, climbing);
        assert_eq!(load(&["phases.0.layer=2-4", "phases.0.steps=8", "phases.0.norm=final"])?, climbing);
        assert_eq!(load(&["phases.0.site=layer:3-3"])?, load(&[])?);
        Ok(())
    }

    #[test]
    fn ranges_that_cannot_be_are_refused_with_the_mend() {
        for (pairs, expected) in [
            (["phases.0.site=layer:2-6", "phases.0.steps=4"], "phases.0 trains 5 layers"),
            (["phases.0.site=layer:6-2", "phases.0.steps=9"], "write the lowest layer first"),
            (["phases.0.site=mlp:1-2", "phases.0.steps=9"], "unknown policy site `mlp:1`"),
            (["phases.0.site=auto-3", "phases.0.steps=9"], "unknown policy site `auto-3`"),
        ] {
            let error = load(&pairs).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{pairs:?}: {error}");
        }
    }
}
