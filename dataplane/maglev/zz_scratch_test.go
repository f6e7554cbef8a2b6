package maglev
import ("testing";"math/rand/v2";"slices";"time")
func TestScratch(t *testing.T){
 for _, mode := range []string{"equal","random","mix1-2-5-10-1000","oneheavy"} {
  for _, size := range []int{16381,65537} {
  b := equal(100); r := rand.New(rand.NewPCG(3,4))
  for i := range b { switch mode { case "random": b[i].Weight=uint32(1+r.IntN(1000)); case "mix1-2-5-10-1000": b[i].Weight=[]uint32{1,2,5,10,1000}[i%5]; case "oneheavy": b[i].Weight=1; if i==7 {b[i].Weight=1000} } }
  before := build(size,b)
  W:=uint32(0); for i:= range b { W+=b[i].Weight }
  worst,mean,heavy := 0.0,0.0,0.0
  h:=0; for i := range b { if b[i].Weight>b[h].Weight {h=i} }
  for i := range b { f:=moved(before, build(size, slices.Delete(slices.Clone(b),i,i+1)), b[i].Index); worst=max(worst,f); mean+=f/100; if i==h {heavy=f} }
  c:=slices.Clone(b); c[h].Weight = c[h].Weight*99/100
  chg:=moved(before,build(size,c),b[h].Index)
  // all slots changed
  tot:=0; a:=build(size,c); for i:=range a { if a[i]!=before[i]{tot++}}
  ideal := float64(b[h].Weight-c[h].Weight)/float64(W)
  t.Logf("%s M=%d remove mean %.3f worst %.3f heaviest(w=%d of %d) %.3f; heaviest -1%%: others %.4f, all %.4f ideal %.4f", mode,size,mean,worst,b[h].Weight,W,heavy,chg,float64(tot)/float64(size),ideal)
 }}
 b:=equal(60000)
 start:=time.Now(); build(Size(60000,1<<30),b); t.Log(time.Since(start))
 for i := range b { b[i].Weight=uint32(1+i%1000) }
 start=time.Now(); build(Size(60000,1<<30),b); t.Log(time.Since(start))
 b[0].Weight=1000
 for i := range b[1:] { b[1+i].Weight=1 }
 start=time.Now(); build(251,b); t.Log(time.Since(start))
}
