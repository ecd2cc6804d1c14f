#![allow(warnings)]
#[path = "../src/models/simulated.rs"]
mod simulated;
use sentinel_behaviour::*;
use sentinel_detect::models::{reasons, scorer::assess, train::rows_by_actor, *};
use sentinel_model::*;
use sentinel_simulator::*;
use std::collections::BTreeMap;
use std::time::Instant;
fn auc(attack: &[f64], ordinary: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = attack.iter().map(|s| (*s, true)).collect();
    all.extend(ordinary.iter().map(|s| (*s, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = 0.0;
    let mut at = 0;
    while at < all.len() {
        let ties = all[at..].iter().take_while(|(s, _)| s.total_cmp(&all[at].0).is_eq()).count();
        let attacks = all[at..at + ties].iter().filter(|(_, is)| *is).count();
        ranks += (at as f64 + (ties as f64 + 1.0) / 2.0) * attacks as f64;
        at += ties;
    }
    let (n, m) = (attack.len() as f64, ordinary.len() as f64);
    (ranks - n * (n + 1.0) / 2.0) / (n * m)
}
fn main() {
    let t = Instant::now();
    let trained = simulated::train_from_simulation(simulated::SEED).unwrap();
    println!("train {:?} {} bytes {:?}", t.elapsed(), trained.onnx.len(), trained.manifest.calibration);
    let model = Model::load(&trained.onnx, &trained.manifest_json().unwrap()).unwrap();
    for (f, u) in FEATURES.iter().zip(&trained.manifest.usual) {
        print!("{} {:?}; ", f.name, u);
    }
    println!();
    for seed in [9001u64, 9002, 9003] {
        let company = simulated::company(seed, 30, 28);
        let victims = company.iam_users();
        let mut records: Vec<_> = company.events().collect();
        let nb = records.len();
        let start = scenario::event_time(&records[records.len() * 9 / 10]).unwrap();
        let mut ids = std::collections::BTreeSet::new();
        let v = victims[0].clone();
        let attack = compromised_key(&AttackOptions {
            seed,
            user: v.name,
            principal_id: v.principal_id,
            access_key_id: v.access_key_id,
            start,
            ..Default::default()
        });
        for a in &attack {
            ids.insert(a["eventID"].as_str().unwrap().to_owned());
        }
        records.extend(attack);
        records.sort_by_key(scenario::event_time);
        let events = simulated::normalised(records.into_iter());
        let t = Instant::now();
        let mut states: BTreeMap<String, PrincipalState> = BTreeMap::new();
        let (mut ben, mut att, mut rawb, mut rawa) = (vec![], vec![], vec![], vec![]);
        let mut by_actor = BTreeMap::<String, (usize, usize)>::new();
        let mut reasons_ben = BTreeMap::<String, usize>::new();
        let mut windows = std::collections::BTreeSet::new();
        for e in &events {
            if !e.principal.identifies_someone() {
                continue;
            }
            let st = states.entry(e.principal.actor.clone()).or_default();
            let row = features(e, st, &model.manifest().rarity);
            let raw = trained.forest.score(&row);
            let m = st.maturity();
            let a = assess(&model, st, e).unwrap();
            if ids.contains(&e.id) {
                att.push(a.score);
                rawa.push(raw);
                if seed == 9001 {
                    println!(
                        "  {:28} {:32} m{:.1} raw {:.3} score {:.2} {:?}",
                        e.principal.name.as_deref().unwrap_or(""),
                        e.action.name,
                        m,
                        raw,
                        a.score,
                        reasons::sentences(e, a.reasons)
                    );
                }
            } else {
                ben.push(a.score);
                rawb.push(raw);
                let x = by_actor.entry(e.principal.actor.clone()).or_default();
                x.0 += 1;
                if a.score >= 0.4 {
                    x.1 += 1;
                    windows.insert((e.principal.actor.clone(), e.time.as_second() / 3600));
                    for r in reasons::sentences(e, a.reasons) {
                        *reasons_ben.entry(r).or_default() += 1;
                    }
                }
            }
        }
        let fp = ben.iter().filter(|s| **s >= 0.4).count();
        println!(
            "seed {seed}: {} records, {} benign scored in {:?}; fp {} = {:.3} per 1000 ({} alerts); auc raw {:.4} final {:.4}; attack events >=.4 {}/{} >=.8 {}; max {:.2}",
            nb,
            ben.len(),
            t.elapsed(),
            fp,
            fp as f64 * 1000. / ben.len() as f64,
            windows.len(),
            auc(&rawa, &rawb),
            auc(&att, &ben),
            att.iter().filter(|s| **s >= 0.4).count(),
            att.len(),
            att.iter().filter(|s| **s >= 0.8).count(),
            att.iter().cloned().fold(0., f64::max)
        );
        println!("   benign raw max {:.3}; victim auc {:.4}", rawb.iter().cloned().fold(0.,f64::max), auc(&att[..22], &ben));
        if seed != 9003 { let mut hij = vec![]; let mut cold = vec![]; let mut techs = (0,0,0);
          let mature: Vec<(&String,&PrincipalState)> = states.iter().filter(|s| s.1.maturity() >= 1.0).collect();
          let mut k = seed as usize;
          let mut files: Vec<_> = std::fs::read_dir("/work/shared/data/cloudtrail/stratus").unwrap().map(|f| f.unwrap().path()).collect(); files.sort();
          for f in files { let recs: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&f).unwrap()).unwrap();
            let mut evs = simulated::normalised(recs.into_iter()); evs.sort_by_key(|e| e.time);
            techs.0 += 1; k = k.wrapping_mul(31).wrapping_add(7); let (actor, st) = mature[k % mature.len()]; let mut st = st.clone();
            let t0 = evs[0].time; let mut hit = false; let mut chit=false; let mut cs = BTreeMap::<String,PrincipalState>::new();
            for e in &evs { if !e.principal.identifies_someone() { continue; }
              let c = assess(&model, cs.entry(e.principal.actor.clone()).or_default(), e).unwrap().score; cold.push(c); chit |= c >= 0.4;
              let mut h = e.clone(); h.time = time::plus_seconds(start, time::seconds_between(t0, e.time));
              let a = assess(&model, &mut st, &h).unwrap().score; hij.push(a); hit |= a >= 0.4; }
            techs.1 += hit as usize; techs.2 += chit as usize; }
          println!("   stratus events {}: hijacked mature principal auc {:.4}, >=.4 {:.2}, techniques {}/{}; cold auc {:.4}, techniques {}", hij.len(), auc(&hij,&ben), hij.iter().filter(|s| **s>=0.4).count() as f64/hij.len() as f64, techs.1, techs.0, auc(&cold,&ben), techs.2);
        }
        let mut worst: Vec<_> = by_actor.into_iter().filter(|x| x.1.1 > 0).collect();
        worst.sort_by_key(|x| std::cmp::Reverse(x.1.1));
        println!("   {:?}", &worst[..worst.len().min(4)]);
        let mut r: Vec<_> = reasons_ben.into_iter().collect();
        r.sort_by_key(|x| std::cmp::Reverse(x.1));
        println!("   {:?}", &r[..r.len().min(6)]);
        let mx = states.values().map(|s| serde_json::to_string(s).unwrap().len()).max();
        println!("   max state {:?}", mx);
    }
}
