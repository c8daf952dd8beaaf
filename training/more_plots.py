"""More plots; the notation and the shared START, DAY and END are those of plots.py."""

from __future__ import annotations

from training.plots import DAY, END, START

MORE_PLOTS: dict[str, tuple[str, str]] = {
    "gift": (
        "a birthday gift",
        START
        + """[Soon|Tomorrow] it would be the birthday of {F} the {fkind}. {N} [wanted to give {fhim} something
        special|had no money to
        buy a gift]. "[What can I give {fhim}|What would make {F} happy]?" {he} asked {his} {parent}. "[The
        best gifts come from the
        heart|You can make something with your own hands]," said {P}. / {N} thought [for a long time|hard].
        Then {he} had an idea.
        {He} would make {gift}! {He} worked [all day|until late] in {his} room. [It was not easy, and {he} had
        to start
        again two times.|Bit by bit it was done.] But when {he} saw it, {he} was {sad}. "[It is so small|It is
        not very pretty]," {he}
        thought. "What if {F} does not like it?" / At the party there were many big gifts: a {toy}, a {food}, and a
        new {thing}. {N} [held {his} gift behind {his} back|was the last to give {his} gift]. {F}
        [opened|looked at] it, and {fhis} eyes grew wide.
        "You made {gift} for me?" {fhe} asked. "[It is the best gift of all|I love it]! [I will keep it
        forever|No one ever made me
        such a gift]." {N} felt {glad}. / Then there was [cake for everyone|singing and dancing], and they all
        played {game}."""
        + END,
    ),
    "seed": (
        "planting a seed",
        START
        + DAY
        + """{his} {parent} gave {N} a tiny seed. "[Plant it and take good care of it|If you are patient,
        something wonderful will
        grow]," said {P}. {N} [dug a hole|made a little hole] in the ground, put the seed in, and gave it
        water. Then {he}
        [sat down and waited|watched the ground]. Nothing happened. / The next day {he} looked again. Still
        nothing. "[It does not
        work|Maybe it is a bad seed|When will it grow]?" {he} said. "[Good things take time|Be patient]," said
        {F} the {fkind}. "[Give
        it water and sun|Sing to it a little]." So every day {N} gave it water. [The sun shone, and the rain
        fell.|{He} sang to it
        in the morning and said good night to it in the evening.] / Then, one morning, {he} saw something
        green! It was [tiny|as small as
        {his} finger]. "Look, {F}, look!" {he} [cried|shouted]. The plant grew and grew, and by summer it was a
        [big|tall|beautiful]
        {plant}. [Bees and butterflies came to visit.|Everyone came to see it.] / "[You waited and you
        cared|You see, good things
        take time]," said {P}. {N} [kept a few seeds for next year|gave {F} a seed to plant too]."""
        + END,
    ),
    "wayhome": (
        "getting lost {at}",
        START
        + DAY
        + """{N} went to {place} to look for [berries|flowers|shells|pretty stones]. {He} saw a {colour}
        butterfly and ran after it[ for
        a long time|, on and on]. When {he} stopped, {he} did not know where {he} was. [Everything looked the
        same.|There was no path.] "[Where is
        my home|How will I get home]?" {he} asked. {He} felt {sad}. / {He} met {G} the {gkind}. "[Can you tell
        me the way home|Do you know
        where my house is]?" asked {N}. "[I do not know, but ask {F} the {fkind}|No, but {F} the {fkind} knows
        every path]," said {G}. So {N} walked on
        until {he} found {F}. "[Do not cry|Do not worry]," said {F}. "What can you see from your house?" {N}
        thought. "I can see {place2}," {he}
        said. "[Then I know where it is|That is not far]!" said {F}. "Come with me." / They walked [past the
        tall trees|over a hill] and
        [along a stream|across a field]. They [sang a song so that the way felt short|talked about {game}]. And
        then {N}
        saw the light in {his} window. {His} {parent} ran out and held {him} tight. "[I was so worried|I am so
        glad you are
        back]," said {P}. "{F} brought me home," said {N}. {P} gave {F} a {food} to say thank you."""
        + END,
    ),
    "bedtime": (
        "going to bed",
        START
        + """[One night|It was late, and the moon was up, but] {N} could not sleep. {He} turned to the left.
        {He} turned to the right. "[I am not
        tired|I can't sleep]," {he} said. {His} {parent} [came in|sat down on the bed]. "[Close your eyes and
        think of something
        nice|Count the stars]," said {P}. / {N} [closed {his} eyes|looked out of the window]. {He} counted one
        star, two stars,
        three stars. [But then {he} heard a sound.|Tap, tap, tap.] It was {F} the {fkind} at the window! "I
        can't sleep either," [whispered|said]
        {F}. "[Shall we try together|Can I stay with you]?" / They lay down [side by side|under the warm
        blanket]. {N} told a
        story about {place}, where the grass was soft and the wind was [warm|quiet]. {F} hummed a little song.
        {N} held {his}
        {toy} close. [The moon smiled down on them.|Outside, the wind sang too.] {F} [yawned|gave a big yawn].
        {N} yawned too. / [Soon|In a little
        while] they were both fast asleep. {P} came in, [pulled up the blanket|turned out the light], and
        whispered, "Good night, {N}.
        Good night, {F}. Sleep well." [And they did.|And they dreamed of {place2} until the morning.] [|||The
        end.]""",
    ),
    "cake": (
        "baking a cake",
        START
        + DAY
        + """{N} and {F} the {fkind} wanted to bake a cake [for {his} {parent}|as a surprise for {G} the
        {gkind}]. They took flour, eggs, milk and
        sugar. {N} [stirred|mixed] it in a big bowl. {F} [broke the eggs|poured the milk]. [Oops! There was
        flour on the floor, flour on the
        table, and flour on {F}'s nose.|Some of it went on the floor.] They [laughed and laughed|laughed]. /
        They put the cake in the oven and
        went out to play {game}. They [had so much fun|played so long] that they forgot about the cake! Then
        {N} smelled something.
        "Oh no, the cake!" {he} [cried|shouted]. They ran inside. The cake was black [as coal|and hard as a
        stone]. {F} [began to cry|was
        {sad}]. "[It was my fault too|We both forgot]," said {N}. "[Let us make a new one|We can try again],
        and this time we will wait." /
        They baked another cake, and they [sat by the oven|watched the clock]. When it was done, it was
        [golden|light and soft]. They put
        [berries|cream|cherries] on top. "[What a beautiful cake|How good it smells]!" said {P}, and they all
        ate a [big|nice]
        piece. [Even the black cake was good for something: the birds came and picked at it.|Not one crumb was
        left.]"""
        + END,
    ),
    "giant": (
        "a grumpy {gkind}",
        START
        + """Near {place} lived a [big|grumpy|very big] {gkind} named {G}. {Ghe} [shouted at everyone|never
        smiled|chased everyone away], and
        so [no one went near {ghis} house|everyone was afraid of {ghim}]. / """
        + DAY
        + """{N} and {F} the {fkind} were playing catch, and their {toy} flew right into {G}'s garden. "[Leave
        it there|Let us run]!"
        said {F}. But {N} [went to the gate|knocked on the door]. "Who is there?" said a [loud|deep] voice.
        "Please, may we have our {thing}
        back?" asked {N}. {His} knees were shaking. / {G} looked down at {him}. "[No
        one ever says please to
        me|No one ever knocks on my door]," {ghe} said slowly. [A big tear rolled down {ghis} cheek.|{Ghe} did
        not look so grumpy now.] "Why are you
        always so angry?" asked {N}. "[I am not angry. I am lonely|Because no one wants to be my friend]," said
        {G}. {N} looked at {F}, and {F}
        nodded. "[Then come and play with us|We can be your friends]!" said {N}. / {G} [smiled for the first
        time in years|could not believe it]. They
        played {game} all day, and {G} [laughed so loud that the leaves shook|gave them each a {food}]. [From
        then on, {ghis} gate was always
        open.|No one was afraid of {G} anymore.]"""
        + END,
    ),
    "moon": (
        "touching the moon",
        START
        + """Every night {N} looked up at the moon. "[I want to touch it|I wish I could hold it]," {he} said. / """
        + DAY
        + """{he} climbed [the highest hill|a very tall tree], but the moon was still far away. {He} put a
        ladder on the roof of the
        house, but the moon was still far away. {He} jumped as high as {he} could, but [of course that did not
        help|{he} only fell on {his} tail end].
        {N} felt {sad}. / {F} the {fkind} asked, "What are you doing?" "[I want to touch the moon|I am trying
        to catch the moon], but it is too high," said {N}.
        {F} thought for a while. Then {fhe} [filled a {colour} bucket with water|took {him} to the pond]. "Look
        down," said {F}. There, in the water,
        was the moon! It was round and [bright|white]. {N} put out {his} hand and touched it [very |]gently.
        The water [danced|made little rings],
        and the moon [danced too|laughed]. / "I touched the moon!" [cried|said] {N}. [Up in the sky, the moon
        seemed to smile.|They sat there for a long
        time and looked at the stars in the water too.] "[Sometimes you only have to look at things another
        way|You do not always have to climb to
        reach something]," said {F}."""
        + END,
    ),
    "school": (
        "the first day of school",
        START
        + """[Today was|It was] the first day of school. {N} packed {his} {toy} and a {food} in {his} bag. But
        {his} tummy felt funny. "[What if no one
        likes me|What if it is too hard|What if I get lost]?" {he} asked. "[Just be yourself|Take one thing at
        a time]," said {his} {parent}, and
        gave {him} a kiss. / At school there were so many new faces. {N} [sat down in the last row|stood by the
        door]. The teacher, {G} the {gkind}, smiled at
        {him}. "[Welcome|Good morning], {N}! Would you like to sit next to {F}?" {F} the {fkind} [moved
        over|waved]. "I like your {thing}," said {F}. "[I have one just like it|I have a blue one at home]." /
        First they [painted pictures|counted to ten], and
        then they [sang a song about {place}|read a book about the sea]. At noon they sat on the grass. {F} had
        forgotten {fhis} lunch, so {N}
        [shared {his} {food}|gave {fhim} half of the {food}]. After that they played {game}. / When the bell
        rang, {N} did not want to go home. "How was
        it?" asked {P}. "[It was wonderful|It was fun]," said {N}, "and I have a new friend!" """
        + END,
    ),
    "snow": (
        "the first snow",
        START
        + """[One morning|When winter came,] everything was white. It had snowed in the night! [{N} put on
        {his} coat, {his} hat and {his} boots.|{N} ran to the
        window. "Snow!" {he} cried.] {He} [ran|hurried] to the house of {F} the {fkind}. "Come out, {F}! Let us
        play in the snow!" / They made snowballs. They
        rode a sled down the hill, [again and again|faster and faster]. Then they made a big snowman with a
        carrot for a nose, two stones for eyes, and a
        {toy} [for luck|that {N} found at home]. "He looks cold," said {F}. So {N} took off {his} own scarf and
        put it around the
        snowman. / In the night {N} [could not sleep|looked out of the window]. It was so cold outside. Was the
        snowman lonely? In the morning {he} ran
        out. Next to the snowman stood a second, smaller snowman, and it wore {F}'s hat! "[I thought that he
        needed a friend|No one should be
        alone in winter]," said {F}, [and smiled|who came out from behind a tree]. / "[You are the best
        friend|What a good idea]," said {N}. They went inside
        and had [hot chocolate|warm milk and a {food}]. When spring came, the snow melted, but {N} and {F}
        still had their friendship."""
        + END,
    ),
    "egg": (
        "a tiny egg",
        START
        + DAY
        + """{N} found an egg {hiding}. It was {colour} with little spots. [No nest was near.|There was no
        mother bird to be seen.] "[Who do you belong
        to|Are you all alone]?" asked {N}. {He} [wrapped it in a warm cloth|put it in {his} hat] and [took it
        home|carried it home]. / {F} the {fkind} came
        to see it. "[What is inside|Who lives in there]?" {fhe} asked. "Maybe a bird," said {N}. "Maybe a
        dragon," said {F}. They [kept it warm all
        night|sat with it, one after the other]. [They told it stories.|{N} sang to it.] On the third day they
        heard a sound. Crack! Crack! / Out came a
        [tiny|wet little] duckling. It looked at {N} and said, "Peep!" "It thinks you are its mother," laughed
        {F}. The duckling followed {N} everywhere:
        to the kitchen, to {place}, and even to bed. But in the evening it looked out at the pond and was sad.
        "[It needs its real
        family|It wants to swim with other ducks]," said {F}. / So they took the duckling to the pond. A mother
        duck swam up to it and [quacked with
        joy|spread her wings]. "Goodbye, little one," said {N}. {He} was a bit sad, but {he} was glad too.
        Every day the duckling [came to say
        hello|waved its little wings when {N} came by]."""
        + END,
    ),
    "map": (
        "a treasure map",
        START
        + DAY
        + """{N} found an old map {hiding}. There was a big red X on it. "[A treasure map|This must be a
        treasure]!" {he} [cried|said]. {He} ran to {F} the
        {fkind}. "[Let us find it together|Will you come with me]?" {he} asked. "Yes!" said {F}[, and put on
        {fhis} hat|]. / First they walked to {place}. Then
        they [counted ten steps|went straight on] to {place2}. [They had to cross a small stream, and {N} held
        {F}'s hand so that {fhe} did not fall.|It was
        a long way, and they had to rest under a tree.] At last they found the place. They dug and dug. [Clunk!
        The shovel hit something hard.|There was
        a wooden box in the ground.] / They opened the box. There was no gold in it. There was only a {toy} and
        a letter. {N} read it [aloud|slowly]: "[The
        greatest treasure is a friend who comes along|You have found the treasure, if you did not go alone]."
        {N} looked at {F}, and {F} looked at {N}.
        Then they [began to laugh|smiled]. "[It is true|The letter is right]," said {F}. "[That was the best
        day of my life|I had so much fun with you]." /
        They put a {food} and a letter of their own in the box for the next ones who would find it."""
        + END,
    ),
    "sick": (
        "a sick friend",
        START
        + """{His} best friend was {F} the {fkind}. / """
        + DAY
        + """{F} did not come to {place}. {N} waited and waited. [Something was wrong.|"Where can {fhe} be?"
        {he} asked.] So {N} went to {F}'s house. {F} was in bed
        with a red nose. "[I am sick|I have a cold]," said {F} in a [small|weak] voice. "I can't play today." /
        {N} went home. "[I want to make {F} feel
        better|What can I do for {F}]," {he} told {his} {parent}. Together they made [hot soup|warm tea with
        honey]. {N} also took [a book|a {toy}] and {gift}.
        Then {he} [ran|went] back to {F}. / {F} ate the soup. {N} told {fhim} [a funny story|about everything
        that happened {at}]. {F} laughed, and [that
        made {fhim} feel better|{fhis} nose was not so red now]. "[You are the best doctor|Thank you for
        coming]," said {F}. The next day {N} came again, and the
        day after that too. / Soon {F} was well. "[Now let us play {game}|To the park]!" {fhe} [cried|said],
        and they ran out into the sun."""
        + END,
    ),
}
