//! Recipes: whatever the text is, it is a recipe that is written and read again the same, or
//! refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wdsr_train::Recipe;

fuzz_target!(|text: &str| {
    let Ok(recipe) = Recipe::parse(text, None) else {
        return;
    };
    let written = recipe.to_toml();
    let again = Recipe::parse(&written, None).expect("our own recipe is read");
    assert_eq!(again.to_toml(), written);
    assert_eq!(again.difference(&recipe), None);
});
