//! The choice of rules by the source of a problem, as written in a configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::GradeError;

/// A way of grading. Written and parsed as `strict`, `equivalent`, `exact`, `numeric`, `command:PROGRAM ARGUMENTS`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Rule {
    /// [`strict`](crate::strict()): the reference implementation's string rule.
    #[default]
    Strict,
    /// [`equivalent`](crate::equivalent()): mathematical equivalence.
    Equivalent,
    /// [`exact`](crate::exact()): the same characters.
    Exact,
    /// [`numeric`](crate::numeric()): the same number.
    Numeric,
    /// A [`CommandScorer`](crate::CommandScorer) of this program and its arguments.
    Command(String),
}

/// One rule, or several that are mixed. Written as a rule's name, or a list of `{ rule = "strict", weight = 0.8 }`.
///
/// The score of a mix is the mean of its rules' scores by weight, so only the proportions of the weights matter.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reward {
    /// This rule's score.
    Rule(Rule),
    /// The weighted mean of these rules' scores.
    Mix(Vec<WeightedRule>),
}

/// Keeps every weighted sum of scores finite.
const MAX_WEIGHT: f64 = 1e6;

/// A rule of a mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "{ rule, weight }")]
pub struct WeightedRule {
    /// The rule.
    pub rule: Rule,
    /// Its share beside the others', from 0 to 1,000,000.
    pub weight: f64,
}

/// The reward of every problem, by the source of its data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rewards {
    /// For sources that `by_source` does not name.
    pub rule: Reward,
    /// A source's name, or the start of one and `*`: a name beats a start, and a longer start a shorter one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_source: BTreeMap<String, Reward>,
}

impl Rewards {
    /// The reward of the problems from a source.
    pub fn of(&self, data_source: &str) -> &Reward {
        let starts = self.by_source.iter().filter_map(|(key, reward)| Some((key.strip_suffix('*')?, reward)));
        let longest = starts.filter(|(start, _)| data_source.starts_with(start)).max_by_key(|(start, _)| start.len());
        let exact = self.by_source.get(data_source);
        exact.or(longest.map(|(_, reward)| reward)).unwrap_or(&self.rule)
    }

    /// # Errors
    /// If a pattern or weights cannot be used.
    pub fn check(&self) -> Result<(), GradeError> {
        for (key, reward) in &self.by_source {
            if key.strip_suffix('*').unwrap_or(key).contains('*') {
                return Err(GradeError::Pattern(key.clone()));
            }
            reward.check(&format!("`{key}`"))?;
        }
        self.rule.check("all other sources")
    }
}

impl Reward {
    /// Its rules, each with its weight.
    pub(crate) fn rules(&self) -> Vec<(&Rule, f64)> {
        match self {
            Self::Rule(rule) => vec![(rule, 1.0)],
            Self::Mix(rules) => rules.iter().map(|WeightedRule { rule, weight }| (rule, *weight)).collect(),
        }
    }

    fn check(&self, source_name: &str) -> Result<(), GradeError> {
        let Self::Mix(rules) = self else { return Ok(()) };
        let weights: Vec<f64> = rules.iter().map(|rule| rule.weight).collect();
        let total: f64 = weights.iter().sum();
        if weights.iter().all(|weight| (0.0..=MAX_WEIGHT).contains(weight)) && total > 0.0 {
            return Ok(());
        }
        Err(GradeError::Weights { source_name: source_name.to_owned(), weights })
    }
}

impl Default for Reward {
    fn default() -> Self {
        Self::Rule(Rule::default())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict => f.write_str("strict"),
            Self::Equivalent => f.write_str("equivalent"),
            Self::Exact => f.write_str("exact"),
            Self::Numeric => f.write_str("numeric"),
            Self::Command(command) => write!(f, "command:{command}"),
        }
    }
}

impl FromStr for Rule {
    type Err = GradeError;

    fn from_str(text: &str) -> Result<Self, GradeError> {
        match text {
            "strict" => Ok(Self::Strict),
            "equivalent" => Ok(Self::Equivalent),
            "exact" => Ok(Self::Exact),
            "numeric" => Ok(Self::Numeric),
            _ => match text.strip_prefix("command:").map(str::trim) {
                Some(command) if !command.is_empty() => Ok(Self::Command(command.to_owned())),
                _ => Err(GradeError::UnknownRule(text.to_owned())),
            },
        }
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl TryFrom<String> for Rule {
    type Error = GradeError;

    fn try_from(text: String) -> Result<Self, GradeError> {
        text.parse()
    }
}

/// By hand, as an untagged enum would not say which rule is unknown.
impl<'de> Deserialize<'de> for Reward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RewardVisitor;

        impl<'de> Visitor<'de> for RewardVisitor {
            type Value = Reward;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rule, or a list of { rule, weight }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Reward, E> {
                text.parse().map(Reward::Rule).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, rules: A) -> Result<Reward, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(rules)).map(Reward::Mix)
            }
        }

        deserializer.deserialize_any(RewardVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = r#"
rule = "numeric"

[by_source]
"*_hard" = "strict"
math_dapo = "equivalent"
"math_*" = "exact"
"math_d*" = "command:sh score.sh -v"
mixed = [{ rule = "strict", weight = 4 }, { rule = "exact", weight = 1.0 }]
"#;

    fn rewards(text: &str) -> Rewards {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn names_survive_a_round_trip() {
        for name in ["strict", "equivalent", "exact", "numeric", "command:sh score.sh"] {
            assert_eq!(name.parse::<Rule>().unwrap().to_string(), name);
        }
        assert_eq!("command: x ".parse::<Rule>().unwrap(), Rule::Command("x".into()));
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "Strict", "command", "command:", "command: ", "strict "] {
            assert!(matches!(name.parse::<Rule>(), Err(GradeError::UnknownRule(_))), "{name}");
        }
    }

    #[test]
    fn a_name_beats_a_start_and_a_longer_start_a_shorter_one() {
        let rewards = rewards(&SETTINGS.replace("*_hard", "hard_*"));
        rewards.check().unwrap();
        for (source, rule) in [
            ("math_dapo", "equivalent"),
            ("math_dapo2", "command:sh score.sh -v"),
            ("math_500", "exact"),
            ("math", "numeric"),
            ("", "numeric"),
        ] {
            assert_eq!(rewards.of(source), &Reward::Rule(rule.parse().unwrap()), "{source}");
        }
        assert_eq!(rewards.of("mixed").rules(), [(&Rule::Strict, 4.0), (&Rule::Exact, 1.0)]);
    }

    #[test]
    fn settings_survive_a_round_trip() {
        let settings = rewards(SETTINGS);
        assert_eq!(rewards(&toml::to_string(&settings).unwrap()), settings);
        let table = toml::Table::try_from(&settings).unwrap();
        assert_eq!(table.try_into::<Rewards>().unwrap(), settings);
        let mixed = rewards("rule = [{ rule = \"strict\", weight = 1 }]\n[by_source]\na = \"exact\"");
        assert_eq!(rewards(&toml::to_string(&mixed).unwrap()), mixed);
        assert_eq!(rewards(""), Rewards::default());
        assert_eq!(Rewards::default().of("anything"), &Reward::Rule(Rule::Strict));
    }

    #[test]
    fn an_invalid_reward_is_an_error_that_names_it() {
        for (text, says) in [
            ("rule = \"stric\"", "`stric` is not a rule"),
            ("rule = 1", "a rule, or a list of { rule, weight }"),
            ("rules = \"strict\"", "unknown field `rules`"),
            ("rule = [{ rule = \"strict\" }]", "missing field `weight`"),
            ("rule = [{ rule = \"strict\", weight = 1, w = 2 }]", "unknown field `w`"),
            ("[by_source]\na = [\"strict\"]", "expected { rule, weight }"),
        ] {
            let error = toml::from_str::<Rewards>(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn patterns_and_weights_are_checked() {
        let error = rewards(SETTINGS).check().unwrap_err();
        assert!(matches!(&error, GradeError::Pattern(key) if key == "*_hard"), "{error}");
        for weights in [vec![], vec![0.0, 0.0], vec![1.0, -0.5], vec![f64::NAN], vec![f64::INFINITY], vec![2e6]] {
            let rules = weights.iter().map(|weight| WeightedRule { rule: Rule::Exact, weight: *weight }).collect();
            let rewards = Rewards { rule: Reward::Mix(rules), by_source: BTreeMap::new() };
            assert!(matches!(rewards.check(), Err(GradeError::Weights { .. })), "{weights:?}");
        }
    }
}
