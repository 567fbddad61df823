//! The logit lens against the full policy and the trace.
#![allow(clippy::unwrap_used)] // A test that fails says where.

mod common;

use bupo::core::{Norm, PolicySite, ResidualDecoder};
use bupo::models::{LensOptions, lens, trace};
use common::{FIXTURES, fixture, json, load, max_difference};

#[test]
fn the_lens_of_the_last_layer_with_the_final_norm_equals_the_full_policy() {
    let options = |norm, top| LensOptions { norm, top, ..LensOptions::default() };
    for name in FIXTURES {
        let tokens: Vec<Vec<u32>> = json(&fixture(name).join("tokens.json"));
        let decoder = load(name).decoder;
        let sites = lens(&decoder, &tokens[0], &options(Norm::Final, 3)).unwrap();
        let [.., last, full] = &sites[..] else { panic!("{name}: {} sites", sites.len()) };
        assert_eq!((last.site, full.site), (PolicySite::Layer(decoder.num_layers()), PolicySite::Full));
        assert_eq!((&last.top, &last.entropy), (&full.top, &full.entropy), "{name}");
        // Entropies without a norm equal the traced ones, which are compared with transformers.
        let traced = trace(&decoder, &tokens[..1]).unwrap();
        for site in lens(&decoder, &tokens[0], &options(Norm::None, 1)).unwrap() {
            let key = match site.site {
                PolicySite::Layer(layer) => format!("entropy.layer.{layer}"),
                _ => "entropy.full".into(),
            };
            let expected: Vec<f32> = traced[&key].iter::<f32>().collect();
            assert!(max_difference(&site.entropy, &expected) < 1e-5, "{name} {key}");
        }
    }
}

#[test]
fn a_lens_reads_the_chosen_sites_and_positions() {
    let name = "qwen3-tied";
    let tokens: Vec<Vec<u32>> = json(&fixture(name).join("tokens.json"));
    let decoder = load(name).decoder;
    let traced = trace(&decoder, &tokens[..1]).unwrap();
    let sites: Vec<PolicySite> = ["ffn:1", "attn:2", "layer:1"].map(|site| site.parse().unwrap()).to_vec();
    let options = LensOptions {
        top: 2,
        sites: Some(sites),
        positions: Some(vec![1, 3]),
        token: Some(7),
        ..LensOptions::default()
    };
    let read = lens(&decoder, &tokens[0], &options).unwrap();
    let names: Vec<String> = read.iter().map(|site| site.site.to_string()).collect();
    assert_eq!(names, ["ffn:1", "layer:1", "attn:2"], "in the order of the forward pass");
    let vocab = decoder.unembedding().dims()[0];
    let all = lens(&decoder, &tokens[0], &LensOptions { top: vocab, ..options.clone() }).unwrap();
    for (site, all) in read.iter().zip(all) {
        let traced: Vec<f32> =
            traced[&format!("entropy.{}", site.site.to_string().replace(':', "."))].iter::<f32>().collect();
        assert!(max_difference(&site.entropy, &[traced[1], traced[3]]) < 1e-5, "{}", site.site);
        for (place, top) in site.followed.as_ref().unwrap().iter().zip(&all.top) {
            assert_eq!((top[place.rank - 1].token, top[place.rank - 1].prob), (7, place.prob));
        }
    }
    for wrong in [
        LensOptions { positions: Some(vec![tokens[0].len()]), ..options.clone() },
        LensOptions { sites: Some(vec![PolicySite::Attn(99)]), ..options.clone() },
        LensOptions { token: Some(u32::MAX), ..options },
    ] {
        assert!(lens(&decoder, &tokens[0], &wrong).is_err(), "{wrong:?}");
    }
}
