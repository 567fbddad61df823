//! A critic by several processes.

use crate::common::max_difference;
use crate::{Start, StepMetrics, TOLERANCE, assert_same_weights, by_name, config, resumed_config, train};

/// A step that trains the critic alone, one of a policy below it, and one of the full policy, with rewards of tokens.
const PPO: [&str; 7] = [
    "loss=ppo",
    "critic.warmup_steps=1",
    "critic.gae_lambda=0.95",
    "phases.0.steps=2",
    "update.epochs=2",
    "objective.reward_kl.coefficient=0.01",
    "optimizer.epsilon=1e-3",
];

#[test]
fn a_critic_is_that_of_one_process_and_continued_by_another_number() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("1");
    let expected = &train(1, &config(&PPO), &alone, &Start::New)[0];
    let run = folder.path().join("3");
    let of_each = train(3, &config(&PPO), &run, &Start::New);
    let values = |step: &StepMetrics| {
        let critic = step.critic.clone().unwrap();
        [Some(critic.value_mean), critic.explained_variance, critic.value_loss, critic.value_grad_norm]
            .map(Option::unwrap)
    };
    for steps in &of_each {
        assert_eq!(steps.len(), 3);
        for (step, (first, expected)) in steps.iter().zip(of_each[0].iter().zip(expected)) {
            assert_eq!(step.critic, first.critic);
            for (ours, expected) in values(step).into_iter().zip(values(expected)) {
                assert!((ours - expected).abs() <= 1e-4 * expected.abs().max(1e-1), "{ours} for {expected}");
            }
        }
    }
    let continued = folder.path().join("2-1");
    let first = config(&[&PPO[..], &["phases.1.steps=0"]].concat());
    train(2, &first, &continued, &Start::New);
    train(1, &resumed_config(&continued, &["phases.1.steps=1".to_string()]).unwrap(), &continued, &Start::Resume);
    for run in [&run, &continued] {
        assert_same_weights(&run.join("model"), &alone.join("model"), TOLERANCE);
        let [ours, expected] =
            [run, &alone].map(|run| by_name(&run.join("checkpoints/step-000003/critic.safetensors")));
        assert_eq!(ours.len(), 3);
        for ((name, shape, a), (other, _, b)) in ours.iter().zip(&expected) {
            assert_eq!((name, shape.len()), (other, 1));
            assert!(max_difference(a, b) <= TOLERANCE, "{name}");
        }
        assert!(ours.iter().all(|(_, _, values)| values.iter().any(|value| *value != 0.0)));
    }
}
